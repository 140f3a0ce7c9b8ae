// SPDX-License-Identifier: MIT
// Content of files: open, read, write, allocate, seek, copy, fsync.
#include <fcntl.h>
#include <linux/falloc.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "fs/fuse/fuse_context.h"
#include "fs/fuse/wire.h"

namespace moltfs::fs::fuse {
namespace {

void released(FuseContext& context, fuse_ino_t ino, int flags) {
  if (!opens_for_writing(flags)) return;
  context.write_opens.released(ino, flags);
  if (!context.write_opens.is_open(ino)) context.low_space.closed(ino);
}

// Not ENOSYS ("no open"): control files need direct I/O, and a seek must know whether the file is
// open for writing.
void open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  FuseContext& context = fuse_context_of(req);
  const int flags = fi->flags;
  fi->keep_cache = 1;
  const int mode = flags & O_ACCMODE;  // the fourth value, 3, allows ioctl(2) alone
  const bool reads = mode == O_RDONLY || mode == O_RDWR, writes = mode != O_RDONLY;
  const auto may = context.filesystem.check_open(InodeNumber(ino), writes, (flags & O_APPEND) != 0);
  if (!may) return reply_error(req, may.error());
  // The kernel does not report reads from its cache: opening for reading counts as the first read.
  if (reads && (flags & O_NOATIME) == 0 && context.filesystem.note_access(InodeNumber(ino))) {
    context.kernel_cache.forget_attributes(ino);
  }
  fi->fh = new_handle(context, flags);
  context.write_opens.opened(ino, flags);
  if (opens_for_writing(flags)) context.low_space.opened(ino);
  if (fuse_reply_open(req, fi) != 0) released(context, ino, flags);
}

void release(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  FuseContext& context = fuse_context_of(req);
  released(context, ino, fi->flags);
  context.volume.write_failures().closed(open_file_of(fi->fh));
  fuse_reply_err(req, 0);
}

/// Past the page cache. Only then does the kernel set the owner of locks in the request.
bool is_direct_read() {
  const auto in = argument_of<fuse_read_in>(current_request());
  return in && (in->read_flags & FUSE_READ_LOCKOWNER) != 0;
}
bool is_direct(uint32_t write_flags) {
  return (write_flags & FUSE_WRITE_LOCKOWNER) != 0;
}

void read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* fi) {
  // Through a descriptor for writing the kernel may read only to fill up a page.
  const bool is_access = (fi->flags & (O_ACCMODE | O_NOATIME)) == O_RDONLY;
  // Whole blocks, so that the device can write straight into the buffer.
  AlignedBuffer buffer(round_up(std::min<size_t>(size, kMaxWriteBytes), kBlockSize));
  FuseContext& context = fuse_context_of(req);
  if (!is_direct_read()) context.write_opens.cached(ino, static_cast<uint64_t>(offset), size);
  const auto got =
      context.filesystem.read(InodeNumber(ino), static_cast<uint64_t>(offset),
                              buffer.span().first(std::min(size, buffer.size())), is_access);
  if (!got) return reply_error(req, got.error());
  fuse_reply_buf(req, reinterpret_cast<const char*>(buffer.data()), got.value());
}

/// Replies to a direct write. The kernel drops its pages before it sends the write, and again
/// after the reply if it waits for that. After asynchronous direct I/O it does not, and pages that
/// it got into its cache meanwhile (it read them, or wrote them back) would stay, with old content.
/// So they are dropped before the reply.
void reply_direct_write(fuse_req_t req, fuse_ino_t ino, uint64_t offset, size_t size) {
  FuseContext& context = fuse_context_of(req);
  const auto drop_and_reply = [=, &context] {
    context.kernel_cache.drop(ino, offset, size);
    fuse_reply_write(req, size);
  };
  if (context.write_opens.may_be_cached(ino, offset, size) &&
      context.deferred.post(drop_and_reply)) {
    return;
  }
  fuse_reply_write(req, size);
}

void write(fuse_req_t req, fuse_ino_t ino, const char* data, size_t size, off_t offset,
           fuse_file_info* fi) {
  Filesystem::WriteFlags flags;
  flags.keep_times = fi->writepage != 0;
  const auto in = argument_of<fuse_write_in>(current_request());
  const uint32_t kernel_flags = in ? in->write_flags : 0;
  flags.kill_suidgid = (kernel_flags & kWriteKillSuidgid) != 0;
  flags.outside_group = flags.kill_suidgid && is_outside_group(req, ino);
  const ConstBytes bytes(reinterpret_cast<const std::byte*>(data), size);
  FuseContext& context = fuse_context_of(req);
  const auto taken = context.low_space.begin_store(
      {ino, static_cast<uint64_t>(offset), size, fi->writepage != 0, fuse_req_ctx(req)->pid});
  if (!taken) return reply_error(req, taken.error());
  if (is_direct(kernel_flags)) {
    const uint64_t moment = context.write_opens.size_moment(ino);
    flags.overtaken = [=, &context] { return context.write_opens.size_was_set_since(ino, moment); };
  }
  if (fi->writepage != 0) context.write_opens.cached(ino, static_cast<uint64_t>(offset), size);
  const auto written =
      context.filesystem.write(InodeNumber(ino), static_cast<uint64_t>(offset), bytes, flags);
  context.write_opens.wrote(ino);
  context.low_space.end_store(taken.value());
  if (!written) return reply_error(req, written.error());
  if (is_direct(kernel_flags)) {
    return reply_direct_write(req, ino, static_cast<uint64_t>(offset), size);
  }
  fuse_reply_write(req, size);
}

void fsync(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info* fi) {
  FuseContext& context = fuse_context_of(req);
  const auto synced = context.filesystem.sync(InodeNumber(ino), open_file_of(fi->fh));
  if (context.write_opens.take_new_blocks(ino)) context.kernel_cache.forget_blocks(ino);
  reply_done(req, synced);
}

/// Runs `operation`, which takes up to `bytes` and replies to `req`, so that it takes nothing
/// reserved.
void take_space(fuse_req_t req, uint64_t bytes, LowSpace::Operation operation) {
  LowSpace& low_space = fuse_context_of(req).low_space;
  if (low_space.take_if_plenty(fuse_req_ctx(req)->pid, bytes, operation)) return;
  defer(req, [&low_space, bytes, operation = std::move(operation)] {
    low_space.take_after_write_back(bytes, operation);
  });
}

void fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length,
               fuse_file_info*) {
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  AllocateMode what = AllocateMode::allocate;
  switch (mode & ~FALLOC_FL_KEEP_SIZE) {
    case 0:
      break;
    case FALLOC_FL_PUNCH_HOLE:
      what = AllocateMode::punch_hole;
      break;
    case FALLOC_FL_ZERO_RANGE:
      what = AllocateMode::zero_range;
      break;
    default:
      return void(fuse_reply_err(req, EOPNOTSUPP));
  }
  FuseContext& context = fuse_context_of(req);
  const auto run = [=, &context] {
    reply_done(req,
               context.filesystem.allocate(InodeNumber(ino), what, static_cast<uint64_t>(offset),
                                           static_cast<uint64_t>(length), keep_size));
  };
  if (what == AllocateMode::punch_hole) return run();
  take_space(req, static_cast<uint64_t>(length), run);
}

void answer_seek(fuse_req_t req, Filesystem& filesystem, fuse_ino_t ino, off_t offset, int whence) {
  if (whence != SEEK_DATA && whence != SEEK_HOLE) return void(fuse_reply_err(req, EINVAL));
  if (offset < 0) return void(fuse_reply_err(req, ENXIO));
  const auto found = filesystem.seek(InodeNumber(ino), static_cast<uint64_t>(offset),
                                     whence == SEEK_DATA ? SeekWhence::data : SeekWhence::hole);
  if (!found) return reply_error(req, found.error());
  fuse_reply_lseek(req, static_cast<off_t>(found.value()));
}

/// The kernel passes on SEEK_DATA and SEEK_HOLE without writing back dirty pages. Those would be
/// missing from the answer, so they are written back first if the file is open for writing.
void lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, fuse_file_info*) {
  FuseContext& context = fuse_context_of(req);
  if (!context.write_opens.is_open(ino)) {
    return answer_seek(req, context.filesystem, ino, offset, whence);
  }
  defer(req, [=, &context] {
    context.kernel_cache.write_back(ino);
    answer_seek(req, context.filesystem, ino, offset, whence);
  });
}

void copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset, fuse_file_info*,
                     fuse_ino_t to, off_t to_offset, fuse_file_info*, size_t length, int flags) {
  if (flags != 0) return void(fuse_reply_err(req, EINVAL));
  FuseContext& context = fuse_context_of(req);
  const auto source = context.filesystem.attributes(InodeNumber(from));
  if (!source) return reply_error(req, source.error());
  const uint64_t size = source.value().size, first = static_cast<uint64_t>(from_offset);
  // The count in the reply has 32 bits.
  const uint64_t most = std::min<uint64_t>(length, uint64_t{1} << 30);
  take_space(req, std::min(most, size - std::min(size, first)), [=, &context] {
    const auto copied =
        context.filesystem.copy_range(InodeNumber(from), static_cast<uint64_t>(from_offset),
                                      InodeNumber(to), static_cast<uint64_t>(to_offset), most);
    if (!copied) return reply_error(req, copied.error());
    fuse_reply_write(req, copied.value());
  });
}

}  // namespace

void add_content_operations(fuse_lowlevel_ops& table) {
  table.open = open;
  table.release = release;
  table.read = read;
  table.write = write;
  table.fsync = fsync;
  table.fallocate = fallocate;
  table.lseek = lseek;
  table.copy_file_range = copy_file_range;
}

}  // namespace moltfs::fs::fuse
