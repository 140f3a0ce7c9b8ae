// SPDX-License-Identifier: MIT
// Opening block devices and image files: what may be opened, locking, and choosing direct I/O.
#include "alloc/device/file_device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "alloc/base/assert.h"
#include "alloc/device/holder.h"
#include "alloc/device/memory_limit.h"

namespace moltfs::alloc {
namespace {

std::string absolute(const std::string& path) {
  std::error_code error;
  const auto result = std::filesystem::absolute(path, error);
  return error ? path : result.string();
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISCHR(mode)) return "a character device";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "of unknown kind";
}

bool kernel_can_discard(dev_t block_device) {
  const auto base = fmt::format("/sys/dev/block/{}:{}", major(block_device), minor(block_device));
  for (const char* queue : {"/queue", "/../queue"}) {  // a partition has its disk's queue
    errno = 0;
    std::ifstream file(base + queue + "/discard_max_bytes");
    uint64_t bytes = 0;
    if (file >> bytes) return bytes > 0;
    if (errno == EACCES || errno == EPERM)
      return true;  // not known: the first discard will show it
  }
  return false;
}

/// The alignment of offsets that direct I/O on an image file requires, in bytes; 0 if the file has
/// no direct I/O.
uint32_t direct_io_alignment(int fd) {
#ifdef STATX_DIOALIGN
  struct statx status {};
  const int asked = statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status);
  if (asked == 0 && (status.stx_mask & STATX_DIOALIGN) != 0) return status.stx_dio_offset_align;
#else
  (void)fd;
#endif
  return 512;  // unknown: a read will show it
}

}  // namespace

FileDevice::~FileDevice() {
  if (fd_ >= 0) close(fd_);
}

Result<std::shared_ptr<FileDevice>> FileDevice::open(const std::string& path,
                                                     const DeviceOpener::Options& options) {
  std::shared_ptr<FileDevice> device(new FileDevice(absolute(path), options.read_only));
  TRY(device->open_fd(options));
  if (options.exclusive) {
    if (!device->is_block_device_) {
      TRY(device->lock_image_file());
    }
    TRY(device->claims_, claim_layers(device->identity_, device->path_, device->read_only_));
  }
  TRY(device->measure());
  return device;
}

Result<std::shared_ptr<FileDevice>> FileDevice::adopt(std::vector<int> descriptors,
                                                      const std::string& path,
                                                      const DeviceOpener::Options& options) {
  ASSERT(!descriptors.empty());
  std::shared_ptr<FileDevice> device(new FileDevice(absolute(path), options.read_only));
  device->fd_ = descriptors.front();
  for (size_t i = 1; i < descriptors.size(); ++i) {
    device->claims_.emplace_back(descriptors[i]);
  }
  TRY(device->identity_, identify(device->fd_, device->path_));
  TRY(device->take_kind());
  const int flags = fcntl(device->fd_, F_GETFL);
  device->direct_io_ = flags >= 0 && (flags & O_DIRECT) != 0;
  TRY(device->measure());
  return device;
}

Result<void> FileDevice::measure() {
  if (is_block_device_) {
    TRY(measure_block_device());
  } else {
    TRY(measure_image_file());
  }
  return direct_io_ ? check_direct_io() : ok();
}

/// The error for `err`, with a sentence that names the path.
Error FileDevice::open_error(int err) const {
  const auto error = [&](Errc code, std::string_view what) {
    return Error(code, fmt::format("{}: {}", path_, what));
  };
  if (err == EBUSY && is_block_device_) {
    const std::string holder = holder_of(block_number_);
    return error(Errc::device_in_use, holder.empty() ? "is in use" : "is in use: " + holder);
  }
  if (err == ETXTBSY) return error(Errc::device_in_use, "is in use: a program runs from it");
  if (err == EROFS) {
    return error(Errc::device_read_only,
                 is_block_device_ ? "is write-protected" : "lies on a read-only filesystem");
  }
  return error(errc_from_errno(err), text_of_errno(err));
}

Result<void> FileDevice::open_fd(const DeviceOpener::Options& options) {
  // What it is, is known before it is opened: opening some kinds (pipes, tapes) has side effects.
  TRY(const auto name, open_path(path_));
  TRY(identity_, identify(name.get(), path_));
  TRY(take_kind());
  TRY(check_outside(identity_, path_));
  const int exclusive = is_block_device_ && options.exclusive ? O_EXCL : 0;
  const int flags = (read_only_ ? O_RDONLY : O_RDWR) | O_CLOEXEC | exclusive;
  direct_io_ = options.direct_io;
  fd_ = reopen(name.get(), flags | (direct_io_ ? O_DIRECT : 0));
  if (fd_ < 0 && errno == EINVAL && direct_io_) {
    direct_io_ = false;
    fd_ = reopen(name.get(), flags);
  }
  if (fd_ < 0) return open_error(errno);

  TRY(const auto opened, identify(fd_, path_));
  if (opened.id != identity_.id) {
    return Error(Errc::busy, fmt::format("{}: changed while it was opened", path_));
  }
  return ok();
}

/// Error: invalid_argument if it is neither a block device nor an image file.
Result<void> FileDevice::take_kind() {
  if (!S_ISBLK(identity_.mode) && !S_ISREG(identity_.mode)) {
    return Error(Errc::invalid_argument,
                 fmt::format("{}: is {}, not a block device or an image file", path_,
                             kind_of(identity_.mode)));
  }
  is_block_device_ = S_ISBLK(identity_.mode);
  block_number_ = identity_.id.device;
  return ok();
}

/// Opens what `name` (O_PATH) stands for.
int FileDevice::reopen(int name, int flags) const {
  const int fd = ::open(fmt::format("/proc/self/fd/{}", name).c_str(), flags);
  if (fd >= 0 || errno != ENOENT || access("/proc/self/fd", F_OK) == 0) return fd;
  return ::open(path_.c_str(), flags);  // there is no /proc
}

Result<void> FileDevice::measure_block_device() {
  // The kernel allows opening a write-protected device for writing, and fails each write.
  int write_protected = 0;
  if (!read_only_ && ioctl(fd_, BLKROGET, &write_protected) == 0 && write_protected != 0) {
    return open_error(EROFS);
  }
  uint64_t size = 0;
  int sector = 0;
  if (ioctl(fd_, BLKGETSIZE64, &size) != 0 || ioctl(fd_, BLKSSZGET, &sector) != 0) {
    return open_error(errno);
  }
  if (sector <= 0 || kBlockSize % static_cast<unsigned>(sector) != 0) {
    return Error(Errc::not_supported,
                 fmt::format("{}: has sectors of {} bytes; at most {} are supported", path_, sector,
                             kBlockSize));
  }
  size_bytes_ = round_down(size, kBlockSize);
  sector_size_ = static_cast<uint32_t>(sector);
  can_discard_ = !read_only_ && kernel_can_discard(block_number_);
  return ok();
}

Result<void> FileDevice::measure_image_file() {
  struct stat status;
  if (fstat(fd_, &status) != 0) return open_error(errno);
  size_bytes_ = round_down(static_cast<uint64_t>(status.st_size), kBlockSize);
  struct statfs filesystem {};
  is_in_memory_ = fstatfs(fd_, &filesystem) == 0 &&
                  (filesystem.f_type == TMPFS_MAGIC || filesystem.f_type == RAMFS_MAGIC);
  if (is_in_memory_ && !read_only_) uses_files_in_memory();
  struct rlimit written {};
  if (!read_only_ && getrlimit(RLIMIT_FSIZE, &written) == 0 && written.rlim_cur < size_bytes_) {
    return Error(Errc::file_too_large,
                 fmt::format("{}: has {} bytes, but this process may not write past {} bytes of a "
                             "file (RLIMIT_FSIZE, ulimit -f)",
                             path_, size_bytes_, written.rlim_cur));
  }
  can_discard_ = !read_only_;
  return ok();
}

Result<void> FileDevice::lock_image_file() {
  return lock_range(fd_, identity_.layers.front(), identity_, path_, read_only_);
}

/// Some filesystems accept O_DIRECT when a file is opened and refuse it when the file is read.
Result<void> FileDevice::check_direct_io() {
  const uint32_t alignment = is_block_device_ ? sector_size_ : direct_io_alignment(fd_);
  bool usable = alignment != 0 && alignment <= kBlockSize;
  if (usable) {
    AlignedBuffer block(kBlockSize);
    usable = pread(fd_, block.data(), block.size(), 0) >= 0 || errno != EINVAL;
  }
  if (usable) {
    if (!is_block_device_) sector_size_ = alignment > 512 ? kBlockSize : 512;
    return ok();
  }
  direct_io_ = false;
  const int flags = fcntl(fd_, F_GETFL);
  if (flags < 0 || fcntl(fd_, F_SETFL, flags & ~O_DIRECT) != 0) return open_error(errno);
  return ok();
}

}  // namespace moltfs::alloc
