// SPDX-License-Identifier: MIT
// Writing content: inline while the file is small, else whole blocks to fresh space.
#include <algorithm>
#include <utility>

#include "fs/content/content.h"
#include "fs/content/content_parts.h"
#include "fs/content/inline_data.h"

namespace moltfs::fs {
namespace {

/// What a write asks for, seen against the file as it is.
struct WriteRequest {
  InodeNumber ino;
  uint64_t offset = 0;
  ConstBytes from;
  bool append = false;

  uint64_t start_in(const Inode& inode) const { return append ? inode.size : offset; }
  uint64_t end_in(const Inode& inode) const { return start_in(inode) + from.size(); }
  bool fits(const Inode& inode) const {
    const uint64_t at = start_in(inode);
    return at <= kMaxFileBytes && from.size() <= kMaxFileBytes - at;
  }
  bool grows(const Inode& inode) const { return fits(inode) && end_in(inode) > inode.size; }
};

/// What one critical section under the range lock finds: all that the write needs to know.
struct WriteView {
  Inode inode;
  bool truncate_unfinished = false;  ///< looked at only if the file grows
  RangeExtents extents;              ///< of the blocks that will be written
  EdgeBlocks edges;
};

struct LockedWrite {
  RangeLock lock;
  WriteView view;
};

/// What a write locks. A write that makes the file longer locks only its own blocks, unless
/// `alone`: so the kernel's write-back of a growing file runs in parallel. This is safe: no such
/// block depends on where the file ends meanwhile. The end only moves up (a truncate locks the
/// whole file), and the bytes between the old end and the write are holes or zeros (E3).
FileRange range_of_write(const WriteRequest& request, const Inode& inode, bool alone) {
  if (!request.fits(inode)) return {0, kBlockSize};
  const uint64_t first = request.start_in(inode), end = request.end_in(inode);
  FileRange range = lock_range(inode, first, end);
  if (!alone && inode.size > kMaxInlineBytes) range.end = round_up(end, kBlockSize);
  return range;
}

/// The range that a write at a given offset most probably has to lock: all of a file that may be
/// new or small.
FileRange guess_range(const WriteRequest& request) {
  const uint64_t size = request.from.size();
  const bool may_be_inline = size <= kMaxInlineBytes && request.offset <= kMaxInlineBytes - size;
  if (request.offset == 0 || may_be_inline) return kWholeFile;
  Inode large;
  large.size = kMaxFileBytes;
  return range_of_write(request, large, false);
}

Result<WriteView> look(Access& access, const FilesystemContext& context,
                       const WriteRequest& request) {
  WriteView view;
  TRY(view.inode, load_file(access, context, request.ino));
  const Inode& inode = view.inode;
  if (!request.fits(inode)) return view;
  const uint64_t first = request.start_in(inode), end = request.end_in(inode);
  if (end > inode.size) {
    TRY(view.truncate_unfinished, is_truncate_unfinished(access, context, inode));
  }
  if (fits_inline(inode, end)) return view;
  const uint64_t from = inode.is_inline() ? 0 : round_down(first, kBlockSize);
  TRY(view.extents, load_range(access, context, inode.ino, {from, round_up(end, kBlockSize)}));
  TRY(view.edges, load_edges(access, context, inode, first, end));
  return view;
}

Result<LockedWrite> lock_write(FilesystemContext& context, const WriteRequest& request,
                               bool alone) {
  if (context.options.read_only) return Errc::read_only;
  const auto take_look = [&](Access& access) { return look(access, context, request); };
  FileRange held;
  bool is_guess = !request.append && !alone;
  if (is_guess) {
    held = guess_range(request);
  } else {
    TRY(const auto inode, read_file_inode(context, request.ino));
    held = range_of_write(request, inode, alone);
  }
  for (;; is_guess = false) {
    RangeLock lock = context.ranges.exclusive(request.ino, held.first, held.end);
    TRY(auto view, context.transactions.read(take_look));
    const FileRange needed = range_of_write(request, view.inode, alone);
    // All of a large file must not stay locked because it was thought to be small.
    const bool too_much = is_guess && held.end > needed.end;
    if (held.covers(needed) && !too_much) return LockedWrite{std::move(lock), std::move(view)};
    held = needed;
  }
}

Result<void> write_inline(FilesystemContext& context, InodeNumber ino, uint64_t at, ConstBytes from,
                          const InodeUpdate& update) {
  const Budget budget{1 + InlineChange::kItemChanges};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    TRY(auto content, load_small_content(txn, context, inode));
    content.resize(std::max<size_t>(content.size(), at + from.size()));
    std::copy(from.begin(), from.end(), content.begin() + static_cast<ptrdiff_t>(at));
    InlineChange change(context, ino);
    TRY(change.prepare(txn, inode, std::move(content)));
    change.apply(txn, inode);
    update.apply(inode, context.now());
    store_inode(txn, context.fs_tree(), inode);
    return ok();
  });
}

Result<void> write_blocks(FilesystemContext& context, WriteView view, uint64_t at, ConstBytes from,
                          const InodeUpdate& update) {
  TRY(auto blocks, compose_blocks(context, view.inode, at, from, std::move(view.edges)));
  BlockWriter writer(context, view.inode.ino);
  TRY(writer.write(blocks.spans, view.extents));
  return writer.record(update);
}

}  // namespace

Result<uint64_t> write_content(FilesystemContext& context, InodeNumber ino, uint64_t offset,
                               ConstBytes from, WriteFlags flags) {
  const WriteRequest request{ino, offset, from, flags.append};
  if (from.empty()) {
    TRY(auto inode, read_file_inode(context, ino));
    return request.start_in(inode);
  }
  TRY(auto file, lock_write(context, request, flags.append));
  if (file.view.truncate_unfinished) {
    file.lock.unlock();
    TRY(file, lock_write(context, request, true));
    if (file.view.truncate_unfinished) {
      TRY(before_growth(context, file.view.inode));
      TRY(file.view, context.transactions.read(
                         [&](Access& access) { return look(access, context, request); }));
    }
  }
  const Inode& inode = file.view.inode;
  if (!request.fits(inode)) return Errc::file_too_large;
  const uint64_t at = request.start_in(inode), end = request.end_in(inode);
  if (end > inode.size && flags.overtaken && flags.overtaken()) {
    const uint64_t left = inode.size - std::min(at, inode.size);
    file.lock.unlock();
    return left == 0 ? at : write_content(context, ino, at, from.first(left), flags);
  }
  InodeUpdate update;
  update.keep_times = flags.keep_times;
  update.size_at_least = end;
  if (fits_inline(inode, end)) {
    TRY(write_inline(context, ino, at, from, update));
  } else {
    TRY(write_blocks(context, std::move(file.view), at, from, update));
  }
  return at;
}

}  // namespace moltfs::fs
