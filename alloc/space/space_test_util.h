// SPDX-License-Identifier: MIT
// Shared by the tests of chunks, mapper and space: devices without bytes, chunks of all profiles.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "alloc/base/assert.h"
#include "alloc/space/map.h"
#include "alloc/space/space.h"
#include "test/support/values.h"

namespace moltfs::alloc::test {

using moltfs::test::kGiB;
using moltfs::test::kMiB;

class NoDevice final : public Device {
 public:
  explicit NoDevice(uint64_t size) : size_(size) {}
  const std::string& path() const override { return path_; }
  uint64_t size_bytes() const override { return size_; }
  uint32_t sector_size() const override { return 512; }
  bool read_only() const override { return false; }
  bool can_discard() const override { return false; }

 private:
  std::string path_ = "/dev/none";
  uint64_t size_;
};

/// For tests with one task. Instead of waiting it calls `on_wait`, which must cause what is waited
/// for, in one call or several.
class ScriptedRuntime final : public Runtime {
 public:
  std::function<void()> on_wait;

  Nanoseconds now() override { return Nanoseconds(0); }
  timespec wall_clock() override { return {}; }
  std::unique_ptr<WaitQueue> make_wait_queue() override { return std::make_unique<Queue>(*this); }
  void sleep(Nanoseconds) override {}
  std::unique_ptr<Task> spawn(std::string, std::function<void()>) override { return nullptr; }
  uint64_t random() override { return 4; }

 private:
  class Queue final : public WaitQueue {
   public:
    explicit Queue(ScriptedRuntime& runtime) : runtime_(runtime) {}
    using WaitQueue::wait;
    void wait(std::unique_lock<std::mutex>& lock) override {
      ASSERT(runtime_.on_wait);
      lock.unlock();
      runtime_.on_wait();
      lock.lock();
    }
    bool wait_for(std::unique_lock<std::mutex>& lock, Nanoseconds) override {
      wait(lock);
      return true;
    }
    void notify_one() override {}
    void notify_all() override {}

   private:
    ScriptedRuntime& runtime_;
  };
};

/// A mapper with `chunks` on devices of these sizes (devids from 1).
inline std::unique_ptr<Mapper> make_mapper(Runtime& runtime, std::vector<uint64_t> device_bytes,
                                           std::shared_ptr<const ChunkList> chunks = nullptr) {
  auto devices = std::make_shared<Map::Devices>();
  for (uint64_t size : device_bytes) {
    const DeviceId id(devices->size() + 1);
    (*devices)[id] = std::make_shared<NoDevice>(size);
  }
  if (!chunks) chunks = std::make_shared<ChunkList>();
  return std::make_unique<Mapper>(runtime, std::make_shared<Map>(chunks, devices, std::nullopt));
}

inline Space::Geometry make_geometry(std::vector<uint64_t> device_bytes, uint64_t chunk_size) {
  Space::Geometry geometry;
  geometry.chunk_size = chunk_size;
  for (uint64_t size : device_bytes) {
    geometry.device_ends[DeviceId(geometry.device_ends.size() + 1)] = size;
  }
  return geometry;
}

inline std::shared_ptr<const Map::Devices> four_devices() {
  auto devices = std::make_shared<Map::Devices>();
  for (uint64_t id = 1; id <= 4; ++id) {
    (*devices)[DeviceId(id)] = std::make_shared<NoDevice>(64 * kGiB);
  }
  return devices;
}

/// `stripes`: devid and offset in MiB.
inline std::shared_ptr<const Chunk> make_chunk(
    Profile profile, uint64_t start, uint64_t length,
    std::vector<std::pair<uint64_t, uint64_t>> stripes = {{1, 4}}) {
  auto chunk = std::make_shared<Chunk>();
  chunk->start = LogicalOffset(start);
  chunk->length = length;
  chunk->profile = profile;
  chunk->birth = Generation(1);
  chunk->copies = static_cast<uint16_t>(copies_of(profile));
  for (const auto& [device, mib] : stripes) {
    chunk->stripes.push_back({DeviceId(device), PhysicalOffset(mib * kMiB), Generation(1)});
  }
  return chunk;
}

/// One chunk of each profile. They are adjacent in the logical address space, and each has a stripe
/// on device 1.
inline std::vector<std::shared_ptr<const Chunk>> chunks_of_all_profiles() {
  return {make_chunk(Profile::single, 0, kMiB, {{1, 10}}),
          make_chunk(Profile::dup, kMiB, kMiB, {{1, 20}, {1, 30}}),
          make_chunk(Profile::raid1, 2 * kMiB, kMiB, {{2, 40}, {1, 40}}),
          make_chunk(Profile::raid0, 3 * kMiB, 3 * kMiB, {{1, 50}, {2, 51}, {3, 52}}),
          make_chunk(Profile::raid10, 6 * kMiB, 2 * kMiB, {{1, 60}, {2, 61}, {3, 62}, {4, 63}}),
          make_chunk(Profile::raid1c3, 8 * kMiB, kMiB, {{3, 70}, {1, 71}, {2, 72}}),
          make_chunk(Profile::raid1c4, 9 * kMiB, kMiB, {{2, 80}, {4, 81}, {1, 82}, {3, 83}})};
}

}  // namespace moltfs::alloc::test
