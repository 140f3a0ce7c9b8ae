// SPDX-License-Identifier: MIT
// Writing content: inline while the file is small, else whole blocks to fresh space.
#include "fs/content/content.h"

#include <algorithm>

#include "fs/content/content_parts.h"
#include "fs/content/inline_data.h"

namespace moltfs::fs {
namespace {

Result<void> write_inline(FilesystemContext& context, InodeNumber ino, uint64_t at, ConstBytes from,
                          const Settlement& settlement) {
  const Budget budget{1 + InlineChange::kItemChanges};
  return context.transactions.write(budget, [&](Txn& txn) -> Result<void> {
    TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
    TRY(auto content, load_small_content(txn, context, inode));
    content.resize(std::max<size_t>(content.size(), at + from.size()));
    std::copy(from.begin(), from.end(), content.begin() + static_cast<ptrdiff_t>(at));
    InlineChange change(context, ino);
    TRY(change.prepare(txn, inode, std::move(content)));
    change.apply(txn, inode);
    settlement.apply(inode, context.now());
    store_inode(txn, context.fs_tree(), inode);
    return ok();
  });
}

Result<void> write_blocks(FilesystemContext& context, const Inode& inode, uint64_t at,
                          ConstBytes from, const Settlement& settlement) {
  TRY(auto image, compose_blocks(context, inode, at, from));
  BlockWriter writer(context, inode.ino);
  TRY(writer.write(image.pieces));
  return writer.record(settlement);
}

/// What a write locks. One that makes the file longer locks its own blocks only, unless `alone`: so
/// what the kernel writes back of a growing file is stored side by side. That will do, for no block
/// of it depends on where the file ends meanwhile: the end only moves up (a truncate locks the
/// whole file), and bytes between the old end and the write are holes or zeros (E3).
FileRange range_of_write(const Inode& inode, uint64_t first, uint64_t end, bool alone) {
  FileRange range = lock_range(inode, first, end);
  if (!alone && inode.size > kMaxInlineBytes) range.end = round_up(end, kBlockSize);
  return range;
}

}  // namespace

Result<uint64_t> write_content(FilesystemContext& context, InodeNumber ino, uint64_t offset,
                               ConstBytes from, WriteFlags flags) {
  const auto start_in = [&](const Inode& inode) { return flags.append ? inode.size : offset; };
  const auto fits = [&](uint64_t at) {
    return at <= kMaxFileBytes && from.size() <= kMaxFileBytes - at;
  };
  if (from.empty()) {
    TRY(auto inode, read_file_inode(context, ino));
    return start_in(inode);
  }
  const auto lock = [&](bool alone) {
    return lock_file(context, ino, [&](const Inode& inode) {
      const uint64_t at = start_in(inode);
      if (!fits(at)) return FileRange{0, kBlockSize};
      return range_of_write(inode, at, at + from.size(), alone);
    });
  };
  TRY(auto file, lock(flags.append));
  bool interrupted = false;
  if (fits(start_in(file.inode)) && start_in(file.inode) + from.size() > file.inode.size) {
    TRY(interrupted, truncate_was_interrupted(context, ino));
    if (interrupted) {
      file.lock.unlock();
      TRY(file, lock(true));
    }
  }
  const Inode& inode = file.inode;
  const uint64_t at = start_in(inode);
  if (!fits(at)) return Errc::file_too_large;
  const uint64_t end = at + from.size();
  if (interrupted && end > inode.size) {
    TRY(before_growth(context, inode));
  }
  Settlement settlement;
  settlement.keep_times = flags.keep_times;
  settlement.size_at_least = end;
  if (fits_inline(inode, end)) {
    TRY(write_inline(context, ino, at, from, settlement));
  } else {
    TRY(write_blocks(context, inode, at, from, settlement));
  }
  return at;
}

}  // namespace moltfs::fs
