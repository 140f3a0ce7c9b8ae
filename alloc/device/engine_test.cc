// SPDX-License-Identifier: MIT
// Both engines, on an image file and on a block device.
#include <cstring>
#include <random>
#include <thread>

#include "alloc/base/log.h"
#include "alloc/device/system_devices.h"
#include "alloc/device/thread_engine.h"
#include "alloc/device/uring_engine.h"
#include "test/support/catch.h"
#include "test/support/scratch_device.h"
#include "test/support/values.h"

namespace moltfs::alloc {
namespace {

using test::kMiB;
using test::LoopDevice;
using test::ScratchDirectory;
constexpr uint64_t kSize = 64 * kMiB;

// Runs `body` for each engine on each kind of device that can be made here.
template <class Body>
void on_every_pair(Body body) {
  RealRuntime runtime;
  const auto opener = make_system_devices(runtime);
  for (const bool uring : {true, false}) {
    const auto engine = uring ? make_uring_engine() : make_thread_engine(runtime, 4);
    if (engine == nullptr) {
      WARN("io_uring is not allowed here: not tested");
      continue;
    }
    CHECK(engine->name() == (uring ? "io_uring" : "threads"));
    for (const bool block_device : {true, false}) {
      const ScratchDirectory directory;
      std::string path = directory.image("image", kSize);
      const auto loop = block_device ? LoopDevice::attach(path) : std::nullopt;
      if (block_device && !loop) {
        WARN("no loop devices here (needs root): not tested");
        continue;
      }
      if (loop) path = loop->path();
      const auto device = opener->open(path, {});
      if (device.has_error()) FAIL(device.error().message());
      INFO(engine->name() << " on " << path);
      body(*engine, *device.value());
    }
  }
}

void fill(Bytes bytes, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t word = random();
    std::memcpy(bytes.data() + i, &word, 8);
  }
}

bool all_good(std::span<const IoRequest> requests) {
  for (const IoRequest& request : requests) {
    if (request.result.has_error()) {
      UNSCOPED_INFO(request.result.error().message());
      return false;
    }
  }
  return true;
}

TEST_CASE("what is written in batches of any size is read back") {
  on_every_pair([](IoEngine& engine, Device& device) {
    AlignedBuffer written(8 * kMiB), back(8 * kMiB);
    uint64_t seed = 1;
    for (const size_t count : {1u, 2u, 3u, 64u, 127u, 128u, 129u, 256u, 1000u}) {
      fill(written.span(), ++seed);
      back.fill_zero();
      const uint64_t part = 2 * kBlockSize;
      std::vector<IoRequest> writes, reads;
      for (size_t i = 0; i < count; ++i) {
        // Scattered over the device, without overlaps.
        const uint64_t place = (i * 7919) % 4096 * part;
        writes.push_back(
            IoRequest::make_write(&device, place, written.span().subspan(i * part, part)));
        reads.push_back(IoRequest::make_read(&device, place, back.span().subspan(i * part, part)));
      }
      engine.run(writes);
      CHECK(all_good(writes));
      CHECK(engine.flush(device).has_value());
      engine.run(reads);
      CHECK(all_good(reads));
      INFO(count);
      CHECK(std::memcmp(written.data(), back.data(), count * part) == 0);
    }
    CHECK(device.counters().writes == 1 + 2 + 3 + 64 + 127 + 128 + 129 + 256 + 1000);
    CHECK(device.counters().written_bytes == device.counters().writes * 2 * kBlockSize);
    CHECK(device.counters().reads == device.counters().writes.load());
    CHECK(device.counters().read_bytes == device.counters().written_bytes.load());
    CHECK(device.counters().flushes == 9);
    CHECK(device.counters().read_errors + device.counters().write_errors == 0);
  });
}

TEST_CASE("an empty batch and empty requests do nothing") {
  on_every_pair([](IoEngine& engine, Device& device) {
    engine.run({});
    std::vector<IoRequest> requests(3, IoRequest::make_read(&device, 0, {}));
    engine.run(requests);
    CHECK(all_good(requests));
    CHECK(device.counters().reads == 0);
  });
}

TEST_CASE("large transfers are complete") {
  on_every_pair([](IoEngine& engine, Device& device) {
    AlignedBuffer written(32 * kMiB), back(32 * kMiB);
    fill(written.span(), 99);
    std::vector<IoRequest> requests;
    for (uint64_t at = 0; at < kSize; at += written.size()) {
      requests.push_back(IoRequest::make_write(&device, at, written.span()));
    }
    engine.run(requests);
    CHECK(all_good(requests));
    CHECK(engine.read(device, kSize - back.size(), back.span()).has_value());
    CHECK(std::memcmp(written.data(), back.data(), back.size()) == 0);
  });
}

TEST_CASE("a request past the end fails, the others of its batch do not") {
  on_every_pair([](IoEngine& engine, Device& device) {
    AlignedBuffer from(kBlockSize), into(5 * kBlockSize);
    from.fill_zero();
    const auto part = [&](size_t first, size_t count) {
      return into.span().subspan(first * kBlockSize, count * kBlockSize);
    };
    std::vector<IoRequest> requests{
        IoRequest::make_read(&device, kSize - kBlockSize, part(0, 1)),
        IoRequest::make_read(&device, kSize, part(1, 1)),
        IoRequest::make_read(&device, kSize - kBlockSize, part(2, 2)),
        IoRequest::make_write(&device, kSize, from.span()),
        IoRequest::make_write(&device, UINT64_MAX - kBlockSize + 1, from.span()),
        IoRequest::make_discard(&device, 0, kSize + kBlockSize),
        IoRequest::make_write(&device, 0, from.span()),
        IoRequest::make_flush(&device),
    };
    engine.run(requests);
    for (const size_t good : {0u, 6u, 7u}) CHECK(requests[good].result.has_value());
    for (const size_t bad : {1u, 2u, 3u, 4u, 5u}) {
      REQUIRE(requests[bad].result.has_error());
      CHECK(requests[bad].result.error() == Errc::io_error);
      CHECK(requests[bad].result.error().message().find(device.path()) == 0);
    }
    CHECK(requests[2].result.error().offset == kSize - kBlockSize);
    CHECK(device.size_bytes() == kSize);
    CHECK(device.counters().read_errors == 2);
    CHECK(device.counters().write_errors == 3);
    const auto alone = engine.read(device, kSize, part(4, 1));
    CHECK(alone.has_error());
  });
}

TEST_CASE("requests to a file that has shrunk fail in a batch too") {
  RealRuntime runtime;
  const auto opener = make_system_devices(runtime);
  for (const bool uring : {true, false}) {
    const auto engine = uring ? make_uring_engine() : make_thread_engine(runtime, 2);
    if (engine == nullptr) continue;
    const ScratchDirectory directory;
    const std::string path = directory.image("image", kMiB);
    const auto device = opener->open(path, {}).value();
    REQUIRE(truncate(path.c_str(), 3 * kBlockSize) == 0);
    AlignedBuffer blocks(4 * kBlockSize);
    const Bytes first = blocks.span().first(kBlockSize);
    const Bytes second = blocks.span().subspan(kBlockSize, kBlockSize);
    std::vector<IoRequest> requests{
        IoRequest::make_read(device.get(), 0, first),
        IoRequest::make_read(device.get(), 2 * kBlockSize, blocks.span().last(2 * kBlockSize)),
        IoRequest::make_read(device.get(), 8 * kBlockSize, second),
    };
    engine->run(requests);
    CHECK(requests[0].result.has_value());
    for (const size_t bad : {1u, 2u}) {
      REQUIRE(requests[bad].result.has_error());
      CHECK(requests[bad].result.error() == Errc::io_error);
    }
  }
}

TEST_CASE("a batch may hold flushes and discards") {
  on_every_pair([](IoEngine& engine, Device& device) {
    AlignedBuffer data(4 * kBlockSize);
    fill(data.span(), 5);
    std::vector<IoRequest> requests;
    for (uint64_t i = 0; i < 300; ++i) {
      const uint64_t place = i * 4 * kBlockSize;
      if (i % 3 == 0) requests.push_back(IoRequest::make_write(&device, place, data.span()));
      if (i % 3 == 1) requests.push_back(IoRequest::make_flush(&device));
      if (i % 3 == 2) requests.push_back(IoRequest::make_discard(&device, place, data.size()));
    }
    engine.run(requests);
    CHECK(all_good(requests));
    CHECK(device.counters().flushes == 100);
    CHECK(device.counters().discarded_bytes == 100 * data.size());
  });
}

TEST_CASE("after a ring breaks its batch is completed, and a new ring is made") {
  const auto engine = make_uring_engine();
  if (engine == nullptr) return;
  set_log_sink([](LogLevel, const std::string&) {});
  RealRuntime runtime;
  const ScratchDirectory directory;
  const auto opener = make_system_devices(runtime);
  const auto device = opener->open(directory.image("image", kMiB), {}).value();

  // Replaces the descriptor of the ring by /dev/null, so that no submission can succeed.
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  unsigned broken = 0;
  for (int fd = 3; fd < 100; ++fd) {
    std::error_code error;
    const auto target = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), error);
    if (error || target != "anon_inode:[io_uring]") continue;
    REQUIRE(dup3(null, fd, O_CLOEXEC) == fd);
    ++broken;
  }
  close(null);
  REQUIRE(broken == 1);

  AlignedBuffer written(kMiB), back(kMiB);
  for (uint64_t round = 0; round < 2; ++round) {
    fill(written.span(), round);
    std::vector<IoRequest> writes, reads;
    for (uint64_t at = 0; at < kMiB; at += kBlockSize) {
      writes.push_back(
          IoRequest::make_write(device.get(), at, written.span().subspan(at, kBlockSize)));
      reads.push_back(IoRequest::make_read(device.get(), at, back.span().subspan(at, kBlockSize)));
    }
    engine->run(writes);
    CHECK(all_good(writes));
    engine->run(reads);
    CHECK(all_good(reads));
    CHECK(std::memcmp(written.data(), back.data(), kMiB) == 0);
  }
  CHECK(device->counters().writes == 512);
  set_log_sink({});
}

TEST_CASE("many threads run batches at once") {
  on_every_pair([](IoEngine& engine, Device& device) {
    std::atomic<unsigned> bad{0};
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < 8; ++t) {
      threads.emplace_back([&, t] {
        const uint64_t base = t * 8 * kMiB;
        AlignedBuffer written(kMiB), back(kMiB);
        for (uint64_t round = 0; round < 10; ++round) {
          fill(written.span(), t * 100 + round);
          std::vector<IoRequest> writes, reads;
          const uint64_t part = (round % 4 + 1) * kBlockSize;
          for (uint64_t at = 0; at + part <= kMiB; at += part) {
            writes.push_back(
                IoRequest::make_write(&device, base + at, written.span().subspan(at, part)));
            reads.push_back(
                IoRequest::make_read(&device, base + at, back.span().subspan(at, part)));
          }
          engine.run(writes);
          engine.run(reads);
          for (const auto* batch : {&writes, &reads}) {
            for (const IoRequest& request : *batch) bad += request.result.has_error();
          }
          const size_t whole = kMiB / part * part;
          bad += std::memcmp(written.data(), back.data(), whole) != 0;
        }
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(bad == 0);
  });
}

}  // namespace
}  // namespace moltfs::alloc
