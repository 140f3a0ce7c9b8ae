// SPDX-License-Identifier: MIT
// Tests of WriteBuffer: what is read from memory, what is handed out, what is displaced (D2).
#include "alloc/volume/write_buffer.h"

#include <random>
#include <thread>

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::alloc;

namespace {

constexpr uint64_t kOwner = 7;

AlignedBuffer blocks(uint64_t count, uint8_t value) {
  AlignedBuffer buffer(count * kBlockSize);
  std::fill(buffer.data(), buffer.data() + buffer.size(), std::byte{value});
  return buffer;
}

LogicalOffset block(uint64_t number) {
  return LogicalOffset(number * kBlockSize);
}

bool all(ConstBytes bytes, uint8_t value) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [&](std::byte b) { return b == std::byte{value}; });
}

}  // namespace

TEST_CASE("what is delayed is read from memory, the rest is left to the devices") {
  RealRuntime runtime;
  WriteBuffer delayed(runtime);
  REQUIRE(delayed.empty());
  REQUIRE(delayed.add(block(10), blocks(2, 1).span(), kOwner));
  REQUIRE(delayed.add(block(13), blocks(1, 2).span(), kOwner));
  REQUIRE(!delayed.empty());

  AlignedBuffer into = blocks(6, 99);
  const auto rest = delayed.read(block(9), into.span());
  REQUIRE(rest.size() == 3);
  REQUIRE(rest[0].at == block(9));
  REQUIRE(rest[0].into.data() == into.data());
  REQUIRE(rest[1].at == block(12));
  REQUIRE(rest[1].into.size() == kBlockSize);
  REQUIRE(rest[2].at == block(14));
  REQUIRE(rest[2].into.data() + rest[2].into.size() == into.data() + into.size());
  REQUIRE(all(into.span().subspan(kBlockSize, 2 * kBlockSize), 1));
  REQUIRE(all(into.span().subspan(4 * kBlockSize, kBlockSize), 2));

  AlignedBuffer one = blocks(1, 99);
  REQUIRE(delayed.read(block(11), one.span()).empty());
  REQUIRE(all(one.span(), 1));
  REQUIRE(delayed.read(block(12), one.span()).size() == 1);
}

TEST_CASE("a batch is read from memory until it is done") {
  RealRuntime runtime;
  WriteBuffer delayed(runtime);
  REQUIRE(!delayed.take());
  REQUIRE(delayed.add(block(5), blocks(1, 1).span(), kOwner));
  REQUIRE(delayed.add(block(3), blocks(1, 2).span(), 8));
  const auto batch = delayed.take();
  REQUIRE(batch);
  REQUIRE(!delayed.take());
  REQUIRE(batch->writes.size() == 2);
  REQUIRE(batch->writes[0].at == block(3));
  REQUIRE(batch->writes[0].owner == 8);
  REQUIRE(all(batch->writes[1].bytes, 1));
  AlignedBuffer one = blocks(1, 99);
  REQUIRE(delayed.read(block(5), one.span()).empty());
  // What comes meanwhile goes into the next.
  REQUIRE(delayed.add(block(6), blocks(1, 3).span(), kOwner));
  delayed.done(*batch);
  REQUIRE(delayed.read(block(5), one.span()).size() == 1);
  REQUIRE(delayed.read(block(6), one.span()).empty());
}

TEST_CASE("a full batch takes no more") {
  RealRuntime runtime;
  WriteBuffer delayed(runtime);
  const uint64_t each = WriteBuffer::kMaxWriteBytes / kBlockSize;
  uint64_t at = 0;
  while (delayed.add(block(at), blocks(each, 1).span(), kOwner)) at += each;
  REQUIRE(at * kBlockSize == WriteBuffer::kBatchBytes);
  const auto batch = delayed.take();
  REQUIRE(batch->writes.size() == at / each);
  REQUIRE(delayed.add(block(at), blocks(1, 1).span(), kOwner));
  delayed.done(*batch);
}

TEST_CASE("D2: a new owner of a place makes what waits for it forgotten") {
  RealRuntime runtime;
  WriteBuffer delayed(runtime);
  REQUIRE(delayed.add(block(10), blocks(8, 1).span(), kOwner));
  delayed.displace({block(12), 2 * kBlockSize});
  REQUIRE(delayed.add(block(12), blocks(1, 2).span(), 8));
  const auto batch = delayed.take();
  REQUIRE(batch->writes.size() == 3);
  REQUIRE(batch->writes[0].at == block(10));
  REQUIRE(batch->writes[0].bytes.size() == 2 * kBlockSize);
  REQUIRE(batch->writes[1].at == block(12));
  REQUIRE(all(batch->writes[1].bytes, 2));
  REQUIRE(batch->writes[2].at == block(14));
  REQUIRE(batch->writes[2].bytes.size() == 4 * kBlockSize);
  delayed.done(*batch);
  REQUIRE(delayed.empty());
}

TEST_CASE("D2: and waits for what is being written there; so does wait_for_taken") {
  RealRuntime runtime;
  WriteBuffer delayed(runtime);
  REQUIRE(delayed.add(block(10), blocks(4, 1).span(), kOwner));
  const auto batch = delayed.take();
  std::atomic<int> through{0};
  std::thread displacer([&] {
    delayed.displace({block(13), kBlockSize});
    ++through;
  });
  std::thread waiter([&] {
    delayed.wait_for_taken();
    ++through;
  });
  delayed.displace({block(14), kBlockSize});  // does not concern it
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  REQUIRE(through == 0);
  REQUIRE(delayed.add(block(20), blocks(1, 2).span(), kOwner));
  delayed.done(*batch);
  displacer.join();
  waiter.join();  // not for what came later
  REQUIRE(through == 2);
}

TEST_CASE("random adds, displacements, batches and reads agree with a model") {
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::mt19937 random(seed);
    RealRuntime runtime;
    WriteBuffer delayed(runtime);
    constexpr uint64_t kBlocks = 64;
    std::vector<uint8_t> content(kBlocks, 0), device(kBlocks, 0);
    uint8_t value = 0;
    std::optional<WriteBuffer::Batch> taken;
    for (int step = 0; step < 200; ++step) {
      const uint64_t first = random() % kBlocks;
      const uint64_t count = 1 + random() % std::min<uint64_t>(8, kBlocks - first);
      const auto finish = [&] {
        for (const auto& write : taken->writes) {
          for (uint64_t i = 0; i < write.bytes.size() / kBlockSize; ++i) {
            device[write.at.value / kBlockSize + i] =
                static_cast<uint8_t>(write.bytes[i * kBlockSize]);
          }
        }
        delayed.done(*taken);
        taken.reset();
      };
      switch (random() % 4) {
        case 0: {  // a place gets new content
          if (taken) finish();
          ++value;
          delayed.displace({block(first), count * kBlockSize});
          if (!delayed.add(block(first), blocks(count, value).span(), kOwner)) {
            taken = delayed.take();
            finish();
            REQUIRE(delayed.add(block(first), blocks(count, value).span(), kOwner));
          }
          std::fill_n(content.begin() + static_cast<long>(first), count, value);
          break;
        }
        case 1:
          if (!taken) taken = delayed.take();
          break;
        case 2:
          if (taken) finish();
          break;
        default: {
          AlignedBuffer into = blocks(count, 255);
          for (const auto& part : delayed.read(block(first), into.span())) {
            for (uint64_t i = 0; i < part.into.size() / kBlockSize; ++i) {
              part.into[i * kBlockSize] = std::byte{device[part.at.value / kBlockSize + i]};
            }
          }
          for (uint64_t i = 0; i < count; ++i) {
            REQUIRE(static_cast<uint8_t>(into.data()[i * kBlockSize]) == content[first + i]);
          }
        }
      }
    }
    if (taken) delayed.done(*taken);
  }
}
