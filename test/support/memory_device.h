// SPDX-License-Identifier: MIT
// Devices in memory, for tests of what lies above alloc/device: sparse, with a hook before each
// request to inject faults, and a back door to look at and damage what is stored.
//
//   MemoryDevices devices;
//   devices.add("mem:a", 64 << 20);
//   auto device = devices.open("mem:a", {}).value();
//   devices.disk("mem:a").corrupt(65536, 8);
//
// What is stored outlives the Device that open() gives, as on a real disk. Writes are stable at
// once; power cuts are the simulator's business (test/sim).
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "alloc/device/device.h"

namespace moltfs::test {

/// The bytes of one device. Thread-safe.
class MemoryDisk {
 public:
  MemoryDisk(uint64_t size_bytes, uint32_t sector_size)
      : size_bytes_(size_bytes), sector_size_(sector_size) {}

  uint64_t size_bytes() const { return size_bytes_; }
  uint32_t sector_size() const { return sector_size_; }
  /// Bytes that were ever written and not discarded since, in units of 4 KiB.
  uint64_t stored_bytes() const;

  /// The back door: any offset and length within the size. What was never written reads as zero.
  void read(uint64_t offset, Bytes into) const;
  void write(uint64_t offset, ConstBytes from);
  void discard(uint64_t offset, uint64_t length);  ///< whole 4 KiB blocks become zero
  /// Inverts every bit of the range.
  void corrupt(uint64_t offset, uint64_t length);
  /// A copy of all that is stored, to be compared or put back. Blocks are shared until one of the two
  /// disks writes to them.
  std::shared_ptr<MemoryDisk> clone() const;
  bool same_content(const MemoryDisk& other) const;

 private:
  using Block = std::array<std::byte, kBlockSize>;
  void check_range(uint64_t offset, uint64_t length) const;

  const uint64_t size_bytes_;
  const uint32_t sector_size_;
  mutable std::mutex mutex_;
  std::map<uint64_t, std::shared_ptr<Block>> blocks_;  // by block number
};

/// Opener and engine in one: all requests are done at once, on the calling thread.
class MemoryDevices final : public alloc::DeviceOpener, public alloc::IoEngine {
 public:
  /// Runs before each request, on the thread that asked; an error becomes the request's result and
  /// nothing else happens. Must be thread-safe.
  using Hook = std::function<Result<void>(const alloc::IoRequest&)>;

  MemoryDevices();
  ~MemoryDevices() override;

  MemoryDisk& add(const std::string& path, uint64_t size_bytes, uint32_t sector_size = 512);
  /// Puts `disk` in at `path` (a clone, or one under another name); the old one goes.
  void insert(const std::string& path, std::shared_ptr<MemoryDisk> disk);
  /// Takes the disk out. Devices that are open on it get device_gone from then on.
  void remove(const std::string& path);
  MemoryDisk& disk(const std::string& path);
  std::shared_ptr<MemoryDisk> disk_pointer(const std::string& path);
  void set_hook(Hook hook);
  /// write-protects the disk at `path`: opening it for writing is device_read_only.
  void write_protect(const std::string& path, bool on);

  Result<std::shared_ptr<alloc::Device>> open(const std::string& path,
                                              const Options& options) override;
  alloc::IoEngine& engine() override { return *this; }
  Result<std::optional<std::string>> signature(alloc::Device& device) override;
  std::vector<std::string> candidates() override;

  void run(std::span<alloc::IoRequest> requests) override;
  std::string_view name() const override { return "memory"; }

 private:
  struct Slot;
  class OpenDevice;
  Slot& slot(const std::string& path);  // REQUIRES: mutex_; the path was added
  Result<void> run_one(alloc::IoRequest& request, const Hook& hook);

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Slot>> slots_;  // guarded by mutex_, as the next
  std::shared_ptr<const Hook> hook_;
};

}  // namespace moltfs::test
