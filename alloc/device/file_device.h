// SPDX-License-Identifier: MIT
// FileDevice: an open block device or image file of this machine. Used only inside this folder.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>

#include "alloc/device/claim.h"
#include "alloc/device/device.h"
#include "alloc/device/identity.h"

namespace moltfs::alloc {

class FileDevice final : public Device {
 public:
  /// Opens and locks the device and finds its size. Errors: see DeviceOpener::open.
  static Result<std::shared_ptr<FileDevice>> open(const std::string& path,
                                                  const DeviceOpener::Options& options);
  /// See DeviceOpener::adopt.
  static Result<std::shared_ptr<FileDevice>> adopt(std::vector<int> descriptors,
                                                   const std::string& path,
                                                   const DeviceOpener::Options& options);
  ~FileDevice() override;
  FileDevice(const FileDevice&) = delete;
  FileDevice& operator=(const FileDevice&) = delete;

  const std::string& path() const override { return path_; }
  uint64_t size_bytes() const override { return size_bytes_; }
  uint32_t sector_size() const override { return sector_size_; }
  bool read_only() const override { return read_only_; }
  bool can_discard() const override { return can_discard_.load(std::memory_order_relaxed); }

  int fd() const { return fd_; }
  const Claims& claims() const { return claims_; }
  const Identity& identity() const { return identity_; }
  bool is_block_device() const { return is_block_device_; }
  bool direct_io() const { return direct_io_; }
  /// A file on a tmpfs: each page that is written for the first time takes memory.
  bool is_in_memory() const { return is_in_memory_; }
  /// To be called if the kernel does not support discarding here: it is not tried again.
  void discard_refused() { can_discard_.store(false, std::memory_order_relaxed); }

 private:
  FileDevice(std::string path, bool read_only) : path_(std::move(path)), read_only_(read_only) {}
  Result<void> open_fd(const DeviceOpener::Options& options);
  Result<void> take_kind();
  Result<void> measure();
  Result<void> measure_block_device();
  Result<void> measure_image_file();
  Result<void> lock_image_file();
  Result<void> check_direct_io();
  int reopen(int name, int flags) const;
  Error open_error(int err) const;

  const std::string path_;
  const bool read_only_;
  int fd_ = -1;
  Identity identity_;
  Claims claims_;           // on what lies under it
  dev_t block_number_ = 0;  // of a block device
  bool is_block_device_ = false;
  bool direct_io_ = false;
  bool is_in_memory_ = false;
  uint64_t size_bytes_ = 0;
  uint32_t sector_size_ = 512;
  std::atomic<bool> can_discard_{false};
};

}  // namespace moltfs::alloc
