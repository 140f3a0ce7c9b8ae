// SPDX-License-Identifier: MIT
// Devices, and the engines that do I/O on them.
//
// A Device has a size, a sector size and counters. An IoEngine carries out requests: run() takes a
// batch, blocks, and returns when every request of the batch is done. The program uses FileDevice
// (block devices and image files) with an engine on io_uring or, where that is not allowed, on
// threads. The simulator has its own device and engine. Code above this folder knows only the
// interfaces in this header.
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
  std::atomic<uint64_t> reads_under_way{0};  ///< of mapped reads: how busy the device is
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const std::string& path() const = 0;  ///< absolute
  virtual uint64_t size_bytes() const = 0;      ///< a multiple of kBlockSize
  virtual uint32_t sector_size() const = 0;     ///< logical sector size: 512 or 4096
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
  std::byte* data = nullptr;  ///< read: is filled; write: only read from; otherwise null
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

/// Counts reads as DeviceCounters::reads_under_way while it lives. REQUIRES: the requests live
/// longer.
class ReadsUnderWay {
 public:
  explicit ReadsUnderWay(std::span<const IoRequest> reads) : reads_(reads) { count(1); }
  ~ReadsUnderWay() { count(~uint64_t{0}); }
  ReadsUnderWay(const ReadsUnderWay&) = delete;
  ReadsUnderWay& operator=(const ReadsUnderWay&) = delete;

 private:
  void count(uint64_t change) const {
    for (const IoRequest& read : reads_) read.device->counters().reads_under_way += change;
  }
  std::span<const IoRequest> reads_;
};

class IoEngine {
 public:
  virtual ~IoEngine() = default;
  /// Carries out all requests, in any order and in parallel, and returns when all are done. Handles
  /// short transfers and EINTR. Updates Device::counters(). A single request is done on the calling
  /// thread. Errors of a request: device_gone, device_read_only, and io_error (also if the range
  /// does not lie inside the device).
  virtual void run(std::span<IoRequest> requests) = 0;
  virtual std::string_view name() const = 0;  ///< "io_uring" or "threads", for the log
  /// Takes from the kernel now what the engine would take later. Afterwards it works in a process
  /// that the kernel gives no more.
  virtual void finish_setup() {}

  // One request each. Errors: as for run().
  Result<void> read(Device& device, uint64_t offset, Bytes into);
  Result<void> write(Device& device, uint64_t offset, ConstBytes from);
  Result<void> flush(Device& device);
  /// Succeeds without effect on a device that cannot discard.
  Result<void> discard(Device& device, uint64_t offset, uint64_t length);
};

/// Opens devices by path, and owns the engine for them. Mount, mkfs and replace open their devices
/// through one of these; the simulator has its own.
class DeviceOpener {
 public:
  virtual ~DeviceOpener() = default;
  struct Options {
    bool read_only = false;
    bool direct_io = true;  ///< tried first; buffered I/O if it is refused
    bool exclusive = true;  ///< O_EXCL on block devices, a lock (F_OFD_SETLK) on image files
  };
  /// Errors: not_found, device_in_use (the message names the path and, if known, who uses it),
  /// device_read_only, access_denied, not_supported (sectors larger than kBlockSize), busy (the
  /// path was replaced meanwhile), invalid_argument (a directory, a character device, ...).
  virtual Result<std::shared_ptr<Device>> open(const std::string& path, const Options& options) = 0;
  /// The device that another process has opened with these options: `descriptors` are those of
  /// descriptors_of() there, owned from now on, also after an error. `path` is for messages and
  /// records. Errors: as for open; not_supported where there are no descriptors.
  virtual Result<std::shared_ptr<Device>> adopt(std::vector<int> descriptors,
                                                const std::string& path, const Options& options);
  virtual IoEngine& engine() = 0;
  /// The name of the filesystem or partition table on the device ("ext4", "btrfs", "swap", "gpt",
  /// ...); "moltfs" for our own; nothing if there is none.
  virtual Result<std::optional<std::string>> signature(Device& device) = 0;
  /// Paths of devices that may hold a volume: where to search for members whose recorded path is
  /// out of date.
  virtual std::vector<std::string> candidates() = 0;
};

/// The first eight bytes of a superblock, and where its first copy lies on a device (bytes).
inline constexpr std::string_view kSignature{"MOLTFS\0\1", 8};
inline constexpr uint64_t kSignatureOffset = 65536;

}  // namespace moltfs::alloc
