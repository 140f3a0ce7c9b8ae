// SPDX-License-Identifier: MIT
// For tests of Volume and of what is above it: devices in memory, volumes with some data, and a
// hook that acts as the replace engine.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "alloc/base/uuid.h"
#include "alloc/disk/chunk_table.h"
#include "alloc/volume/volume.h"
#include "test/support/memory_device.h"
#include "test/support/values.h"

namespace moltfs::alloc::test {

using moltfs::test::kMiB;
using moltfs::test::uuid_of;

/// Acts as the replace engine: the payload is the generation; a fault of the target is counted and
/// switches duplication off.
class FakeEngine final : public CommitHook {
 public:
  Volume* volume = nullptr;
  bool stands = true;
  std::atomic<unsigned> faults{0};
  std::vector<std::string> calls;
  std::function<void()> when_asked = [] {};

  void on_seal(Generation) override { calls.push_back("seal"); }
  std::vector<std::byte> on_flushed(Generation g, bool target_flushed) override {
    calls.push_back(target_flushed ? "flushed target" : "flushed");
    return {std::byte(g.value)};
  }
  void on_durable(Generation) override { calls.push_back("durable"); }
  void target_fault(IoOp, const Error&) override {
    ++faults;
    stands = false;
    volume->disarm_soon();
  }
  bool duplication_stands() override {
    when_asked();
    return stands;
  }
};

/// A real runtime that counts the tasks that wait.
class CountingRuntime final : public Runtime {
 public:
  /// Tasks in wait queues of this runtime.
  unsigned waiting() const { return waiting_; }

  Nanoseconds now() override { return real_.now(); }
  timespec wall_clock() override { return real_.wall_clock(); }
  std::unique_ptr<WaitQueue> make_wait_queue() override {
    return std::make_unique<Queue>(*this, real_.make_wait_queue());
  }
  void sleep(Nanoseconds duration) override { real_.sleep(duration); }
  std::unique_ptr<Task> spawn(std::string name, std::function<void()> body) override {
    return real_.spawn(std::move(name), std::move(body));
  }
  uint64_t random() override { return real_.random(); }

 private:
  class Queue final : public WaitQueue {
   public:
    Queue(CountingRuntime& runtime, std::unique_ptr<WaitQueue> real)
        : runtime_(runtime), real_(std::move(real)) {}
    using WaitQueue::wait;
    void wait(std::unique_lock<std::mutex>& lock) override {
      ++runtime_.waiting_;
      real_->wait(lock);
      --runtime_.waiting_;
    }
    bool wait_for(std::unique_lock<std::mutex>& lock, Nanoseconds timeout) override {
      ++runtime_.waiting_;
      const bool woken = real_->wait_for(lock, timeout);
      --runtime_.waiting_;
      return woken;
    }
    void notify_one() override { real_->notify_one(); }
    void notify_all() override { real_->notify_all(); }

   private:
    CountingRuntime& runtime_;
    std::unique_ptr<WaitQueue> real_;
  };
  RealRuntime real_;
  std::atomic<unsigned> waiting_{0};
};

/// Devices in memory, by path, and what runs on them. The fixtures of all layers above stand on it.
struct TestDisks {
  CountingRuntime runtime;
  moltfs::test::MemoryDevices devices;

  explicit TestDisks(std::map<std::string, uint64_t> sizes) {
    for (const auto& [path, size] : sizes) devices.add(path, size);
  }

  Result<std::unique_ptr<Volume>> create(std::vector<std::string> paths,
                                         Volume::CreateOptions options = {}) {
    std::vector<std::shared_ptr<Device>> opened;
    for (const auto& path : paths) {
      TRY(auto device, devices.open(path, {}));
      opened.push_back(std::move(device));
    }
    return Volume::create(runtime, devices, std::move(opened), options);
  }
  Result<std::unique_ptr<Volume>> open(std::vector<std::string> paths,
                                       Volume::OpenOptions options = {}) {
    return Volume::open(runtime, devices, std::move(paths), options);
  }
};

/// 64 KiB that differ for each seed.
inline AlignedBuffer pattern(uint8_t seed) {
  AlignedBuffer buffer(65536);
  for (size_t i = 0; i < buffer.size(); ++i) buffer.data()[i] = std::byte(seed + i / 4096 * 16);
  return buffer;
}

inline Result<LogicalOffset> put(Volume& volume, uint8_t seed, Generation running) {
  auto bytes = pattern(seed);
  TRY(auto range, volume.space().allocate_data(bytes.size(), running));
  auto guard = volume.acquire_map();
  const LogicalWrite write{range.start, bytes.span()};
  TRY(volume.write(guard, {&write, 1}));
  volume.space().record_data(range);
  return range.start;
}

inline Result<bool> holds(Volume& volume, LogicalOffset at, uint8_t seed) {
  AlignedBuffer found(65536);
  auto guard = volume.acquire_map();
  TRY(volume.read(guard, at, found.span(), 0));
  auto expected = pattern(seed);
  return std::memcmp(found.data(), expected.data(), expected.size()) == 0;
}

inline Result<void> commit(Volume& volume, uint64_t generation) {
  auto sealed = volume.seal(Generation(generation));
  TRY(volume.finish_commit(sealed, {std::byte{42}, std::byte(generation)}));
  volume.free_removed(sealed);
  return ok();
}

/// Copies all device extents of the source to the target, as a copier does.
inline void copy_all(TestDisks& disks, Volume& volume, const std::string& from,
                     const std::string& to) {
  for (const auto& entry : volume.devices()) {
    if (entry.path != from) continue;
    const auto chunks = volume.mapper().current()->shared_chunks();
    for (const auto& extent : device_extents(*chunks, entry.devid)) {
      std::vector<std::byte> bytes(extent.range.length);
      disks.devices.disk(from).read(extent.range.start.value, bytes);
      disks.devices.disk(to).write(extent.range.start.value, bytes);
    }
  }
}

/// A device that becomes the target of a replace of devid `source`, with its superblock.
struct Target {
  DeviceEntry entry;
  std::shared_ptr<Device> device;
};

inline Result<Target> make_target(TestDisks& disks, Volume& volume, DeviceId source,
                                  const std::string& path) {
  Target target;
  TRY(target.device, disks.devices.open(path, {}));
  target.entry = {source, Uuid::generate(disks.runtime), target.device->size_bytes(), path};
  Superblock sb = volume.superblock();
  sb.role = DeviceRole::target;
  sb.devid = source;
  sb.device = target.entry.uuid;
  TRY(write_superblock(volume.engine(), *target.device, sb));
  TRY(volume.engine().flush(*target.device));
  return target;
}

}  // namespace moltfs::alloc::test
