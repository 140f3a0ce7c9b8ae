// SPDX-License-Identifier: MIT
// copy_file_range(2): data block by block, holes as holes.
#include <algorithm>

#include "fs/content/content.h"
#include "fs/content/content_parts.h"

namespace moltfs::fs {
namespace {

class Copy {
 public:
  Copy(FilesystemContext& context, InodeNumber from, InodeNumber to)
      : context_(context), from_(from), to_(to) {}

  Result<uint64_t> run(uint64_t from_offset, uint64_t to_offset, uint64_t length) {
    TRY(auto source, read_file_inode(context_, from_));
    TRY(const auto target, read_file_inode(context_, to_));
    if (target.is_immutable()) return Errc::not_permitted;
    if (from_offset >= source.size) return uint64_t{0};
    length = std::min(length, source.size - from_offset);
    if (to_offset > kMaxFileBytes || length > kMaxFileBytes - to_offset) {
      return Errc::file_too_large;
    }
    uint64_t done = 0;
    while (done < length) {
      auto step = copy_some(from_offset + done, to_offset + done, length - done);
      if (!step && done == 0) return step.error();
      if (!step || step.value() == 0) break;  // an error, or the source was truncated meanwhile
      done += step.value();
    }
    return done;
  }

 private:
  /// Copies one hole, or data up to the next hole; returns the bytes copied.
  Result<uint64_t> copy_some(uint64_t from_offset, uint64_t to_offset, uint64_t length) {
    TRY(auto data, data_from(from_offset, from_offset + length));
    if (data.first == from_offset) return copy_data(data, to_offset);
    TRY(copy_hole(to_offset, data.first - from_offset));
    return data.first - from_offset;
  }

  /// The first data in [first, end); an empty range at `end` if there is none.
  Result<FileRange> data_from(uint64_t first, uint64_t end) {
    auto data = seek_content(context_, from_, first, SeekWhence::data);
    if (!data && data.error() == Errc::no_such_offset) return FileRange{end, end};
    TRY(data);
    if (data.value() >= end) return FileRange{end, end};
    auto hole = seek_content(context_, from_, data.value(), SeekWhence::hole);
    if (!hole && hole.error() == Errc::no_such_offset) return FileRange{data.value(), end};
    TRY(hole);
    return FileRange{data.value(), std::min(hole.value(), end)};
  }

  Result<void> copy_hole(uint64_t at, uint64_t length) {
    if (length == 0) return ok();
    TRY(allocate_content(context_, to_, AllocateMode::punch_hole, at, length, true));
    return grow_content(context_, to_, at + length);
  }

  /// Returns the bytes copied: fewer only if the source ends before.
  Result<uint64_t> copy_data(FileRange data, uint64_t to_offset) {
    // Whole blocks of the target are aligned in memory.
    const uint64_t lead = to_offset % kBlockSize;
    AlignedBuffer buffer(kBufferBytes + kBlockSize);
    uint64_t done = 0;
    while (data.first + done < data.end) {
      const uint64_t at = to_offset + done;
      const uint64_t room = kBufferBytes - (done == 0 ? lead : 0);
      const uint64_t wanted = std::min(data.end - data.first - done, room);
      const Bytes bytes = buffer.span().subspan(done == 0 ? lead : 0, wanted);
      TRY(auto got, read_content(context_, from_, data.first + done, bytes));
      if (got == 0) break;
      TRY(write_content(context_, to_, at, bytes.first(got), {}));
      done += got;
      if (got < wanted) break;
    }
    return done;
  }

  FilesystemContext& context_;
  const InodeNumber from_, to_;
};

}  // namespace

Result<uint64_t> copy_content(FilesystemContext& context, InodeNumber from, uint64_t from_offset,
                              InodeNumber to, uint64_t to_offset, uint64_t length) {
  if (from_offset > kMaxFileBytes || to_offset > kMaxFileBytes) return Errc::invalid_argument;
  length = std::min(length, kMaxFileBytes);
  const bool overlap = from_offset < to_offset + length && to_offset < from_offset + length;
  if (from == to && length > 0 && overlap) return Errc::invalid_argument;
  return Copy(context, from, to).run(from_offset, to_offset, length);
}

}  // namespace moltfs::fs
