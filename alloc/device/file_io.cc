// SPDX-License-Identifier: MIT
// The system calls for a single request.
#include "alloc/device/file_io.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include "alloc/base/assert.h"
#include "alloc/base/blocking.h"
#include "alloc/base/contain.h"
#include "alloc/device/memory_limit.h"

namespace moltfs::alloc {
namespace {

const char* verb_of(IoOp op) {
  switch (op) {
    case IoOp::read:
      return "read";
    case IoOp::write:
      return "write";
    case IoOp::flush:
      return "flush";
    case IoOp::discard:
      return "discard";
  }
  return "request";
}

std::string describe(const IoRequest& request) {
  const char* verb = verb_of(request.op);
  if (request.op == IoOp::flush) return fmt::format("{}: {}", request.device->path(), verb);
  return fmt::format("{}: {} of {} bytes at offset {}", request.device->path(), verb,
                     request.length, request.offset);
}

void refuse(IoRequest& request, Errc code, std::string_view why) {
  Error error(code);  // without memory, without a sentence
  (void)contain([&] { error = Error(code, fmt::format("{}: {}", describe(request), why)); });
  error.offset = request.offset;
  DeviceCounters& counters = request.device->counters();
  switch (request.op) {
    case IoOp::read:
      ++counters.read_errors;
      break;
    case IoOp::flush:
      ++counters.flush_errors;
      break;
    case IoOp::write:
    case IoOp::discard:
      ++counters.write_errors;
      break;
  }
  request.result = std::move(error);
}

int transfer(const IoRequest& request) {
  const int fd = file_device_of(request).fd();
  size_t done = 0;
  while (done < request.length) {
    std::byte* const data = request.data + done;
    const size_t length = request.length - done;
    const auto offset = static_cast<off_t>(request.offset + done);
    const ssize_t moved = request.op == IoOp::read ? pread(fd, data, length, offset)
                                                   : pwrite(fd, data, length, offset);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return errno;
    if (moved == 0) return EIO;  // the file was truncated
    done += static_cast<size_t>(moved);
  }
  return 0;
}

int flush(const FileDevice& device) {
  // fdatasync is enough: the size of an image file never changes.
  while (fdatasync(device.fd()) != 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

int discard(FileDevice& device, uint64_t offset, uint64_t length) {
  if (!device.can_discard()) return 0;
  for (;;) {
    uint64_t range[2] = {offset, length};
    const int failed = device.is_block_device()
                           ? ioctl(device.fd(), BLKDISCARD, range)
                           : fallocate(device.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                       static_cast<off_t>(offset), static_cast<off_t>(length));
    if (failed == 0) return 0;
    if (errno == EINTR) continue;
    if (errno != EOPNOTSUPP && errno != ENOTTY && errno != ENOSYS) return errno;
    device.discard_refused();
    return 0;
  }
}

/// A device has only the errors of a device: ENOSPC of an image file's host must not become the
/// filesystem's own "no space". A flush that fails for lack of room may have lost earlier writes,
/// so it is an I/O error.
Errc code_of_device_errno(IoOp op, int err) {
  const Errc code = errc_from_errno(err);
  if (code == Errc::no_space && op == IoOp::write) return Errc::device_full;
  return code == Errc::device_gone ? Errc::device_gone : Errc::io_error;
}

/// False: the write would take so much memory that the kernel might kill this process.
bool has_memory_for(const IoRequest& request) {
  const FileDevice& device = file_device_of(request);
  if (!device.is_in_memory()) return true;
  const auto offset = static_cast<off_t>(request.offset);
  const off_t hole = lseek(device.fd(), offset, SEEK_HOLE);
  if (hole >= offset + static_cast<off_t>(request.length)) return true;  // the pages are there
  return take_memory_for_write(request.length);
}

}  // namespace

bool admit(IoRequest& request) {
  request.result = ok();
  if (request.op == IoOp::flush) return true;
  ASSERT(request.offset % kBlockSize == 0 && request.length % kBlockSize == 0);
  ASSERT(request.op == IoOp::discard || is_aligned(request.data));
  const uint64_t size = request.device->size_bytes();
  if (request.offset > size || request.length > size - request.offset) {
    refuse(request, Errc::io_error, fmt::format("past the end of the device at {} bytes", size));
    return false;
  }
  if (request.op != IoOp::read && request.device->read_only()) {
    refuse(request, Errc::device_read_only, "the device is open read-only");
    return false;
  }
  if (request.op == IoOp::write && !has_memory_for(request)) {
    finish(request, ENOSPC);
    return false;
  }
  return request.length != 0;
}

int perform(const IoRequest& request) {
  announce_blocking();
  switch (request.op) {
    case IoOp::read:
    case IoOp::write:
      return transfer(request);
    case IoOp::flush:
      return flush(file_device_of(request));
    case IoOp::discard:
      return discard(file_device_of(request), request.offset, request.length);
  }
  return EINVAL;
}

void finish(IoRequest& request, int err) {
  if (err != 0) {
    refuse(request, code_of_device_errno(request.op, err), text_of_errno(err));
    return;
  }
  request.result = ok();
  DeviceCounters& counters = request.device->counters();
  constexpr auto relaxed = std::memory_order_relaxed;
  switch (request.op) {
    case IoOp::read:
      counters.reads.fetch_add(1, relaxed);
      counters.read_bytes.fetch_add(request.length, relaxed);
      break;
    case IoOp::write:
      counters.writes.fetch_add(1, relaxed);
      counters.written_bytes.fetch_add(request.length, relaxed);
      break;
    case IoOp::flush:
      counters.flushes.fetch_add(1, relaxed);
      break;
    case IoOp::discard:
      counters.discarded_bytes.fetch_add(request.length, relaxed);
      break;
  }
}

void run_here(IoRequest& request) {
  if (admit(request)) finish(request, perform(request));
}

}  // namespace moltfs::alloc
