// SPDX-License-Identifier: MIT
// Devices and the engines that do I/O on them.
//
// A Device is a place of bytes with a size, a sector size and counters. An IoEngine carries out
// requests: a blocking call with a batch, which returns when every request of the batch is done.
// Production has FileDevice (block devices and image files) with an engine on io_uring or, where
// that is forbidden, on threads; the simulator has its own pair. Nothing above this header knows
// which.
//
// CONTRACT: offset, length and data address of every read, write and discard are multiples of
// kBlockSize. A write is durable only after a later flush of the same device has succeeded.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/base/runtime.h"
#include "alloc/base/strong_types.h"

namespace moltfs::alloc {

/// Counted since the device was opened.
struct DeviceCounters {
  std::atomic<uint64_t> read_bytes{0}, written_bytes{0}, discarded_bytes{0};
  std::atomic<uint64_t> reads{0}, writes{0}, flushes{0};
  std::atomic<uint64_t> read_errors{0}, write_errors{0}, flush_errors{0}, checksum_errors{0};
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& path() const = 0;  ///< as given by the user, made absolute
  virtual uint64_t size_bytes() const = 0;
  virtual uint32_t sector_size() const = 0;  ///< logical sector size: 512 or 4096
  virtual bool read_only() const = 0;
  virtual bool can_discard() const = 0;
  DeviceCounters& counters() { return counters_; }

 private:
  DeviceCounters counters_;
};

enum class IoOp : uint8_t { read, write, flush, discard };

/// One request; `result` is set by IoEngine::run.
struct IoRequest {
  Device* device = nullptr;
  IoOp op = IoOp::read;
  uint64_t offset = 0;
  std::byte* data = nullptr;  ///< read: filled; write: only read from; else null
  size_t length = 0;
  Result<void> result = ok();

  static IoRequest make_read(Device* d, uint64_t offset, Bytes into) {
    return {d, IoOp::read, offset, into.data(), into.size(), ok()};
  }
  static IoRequest make_write(Device* d, uint64_t offset, ConstBytes from) {
    return {d, IoOp::write, offset, const_cast<std::byte*>(from.data()), from.size(), ok()};
  }
  static IoRequest make_flush(Device* d) { return {d, IoOp::flush, 0, nullptr, 0, ok()}; }
  static IoRequest make_discard(Device* d, uint64_t offset, uint64_t length) {
    return {d, IoOp::discard, offset, nullptr, length, ok()};
  }
};

class IoEngine {
 public:
  virtual ~IoEngine() = default;
  /// Carries out all requests, in any order and in parallel, and returns when all are done.
  /// Short transfers and EINTR are dealt with inside; reading past the end is io_error. Counts in
  /// Device::counters(). A single request is done on the calling thread.
  virtual void run(std::span<IoRequest> requests) = 0;
  virtual std::string_view name() const = 0;  ///< "io_uring", "threads": for the log

  Result<void> read(Device& device, uint64_t offset, Bytes into);
  Result<void> write(Device& device, uint64_t offset, ConstBytes from);
  Result<void> flush(Device& device);
  /// Best effort: a device that cannot discard is a success.
  Result<void> discard(Device& device, uint64_t offset, uint64_t length);
};

/// How the operating system's devices are reached; the simulator gives its own. Everything that
/// opens devices by path (mount, mkfs, replace start) goes through one of these.
class DeviceOpener {
 public:
  virtual ~DeviceOpener() = default;
  struct Options {
    bool read_only = false;
    bool direct_io = true;  ///< tried first; falls back to buffered I/O where refused
    bool exclusive = true;  ///< O_EXCL on block devices, a lock (F_OFD_SETLK) on files
  };
  /// Errors: not_found, device_in_use (message names the path and, where known, the holder),
  /// device_read_only, invalid_argument (a directory, a character device, a socket, ...).
  virtual Result<std::shared_ptr<Device>> open(const std::string& path, const Options& options) = 0;
  virtual IoEngine& engine() = 0;
  /// What a foreign filesystem or partition table on the device is called ("ext4", "btrfs",
  /// "swap", "gpt"...), "moltfs" for ours, nothing if there is none.
  virtual Result<std::optional<std::string>> signature(Device& device) = 0;
  /// Devices that may hold a volume, for finding members by uuid when a recorded path is stale.
  virtual std::vector<std::string> candidates() = 0;
};

/// Block devices and image files of this machine. `runtime` is for the threads engine.
/// The engine is made when it is first asked for (a program that forks into the background does so
/// before): io_uring where the kernel allows it, else threads; the log says which. The environment
/// variable MOLTFS_IO_ENGINE=io_uring|threads asks for one.
std::unique_ptr<DeviceOpener> make_system_devices(Runtime& runtime);

/// The eight bytes at kSignatureOffset of each device of a volume.
inline constexpr std::string_view kSignature{"MOLTFS\0\1", 8};
inline constexpr uint64_t kSignatureOffset = 65536;

/// The engines by themselves, for tests: io_uring (null where it is not allowed; errno says why)
/// and threads.
std::unique_ptr<IoEngine> make_uring_engine();
std::unique_ptr<IoEngine> make_thread_engine(Runtime& runtime, unsigned threads);

}  // namespace moltfs::alloc
