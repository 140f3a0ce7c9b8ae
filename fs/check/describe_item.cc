// SPDX-License-Identifier: MIT
// The text for each kind of item.
#include "fs/check/describe_item.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include "alloc/base/load.h"
#include "alloc/base/utf8.h"
#include "fs/content/extents.h"
#include "fs/inode/orphan_mark.h"
#include "fs/inode/xattrs.h"
#include "fs/names/dir_entry.h"

namespace moltfs::fs {
namespace {

// Names are printed between quotes.
constexpr std::string_view kQuoted = "\"\\";

std::string_view type_name(uint32_t mode) {
  switch (mode & S_IFMT) {
    case S_IFREG:
      return "file";
    case S_IFDIR:
      return "directory";
    case S_IFLNK:
      return "symlink";
    case S_IFCHR:
      return "character device";
    case S_IFBLK:
      return "block device";
    case S_IFIFO:
      return "fifo";
    default:
      return "socket";
  }
}

std::string time_text(const Time& time) {
  return fmt::format("{}.{:09}", time.seconds, time.nanoseconds);
}

template <class T, class F>
std::string or_error(const Result<T>& decoded, const F& word) {
  return decoded ? word(decoded.value()) : "not valid: " + decoded.error().message();
}

std::string describe_xattr(const Item& item) {
  if (xattr_part_of(item.key) != 0) {
    return fmt::format("attribute, part {}: {} bytes", xattr_part_of(item.key), item.value.size());
  }
  return or_error(decode_xattr(item.key, item.value), [](const XattrHead& head) {
    return fmt::format("attribute {}: {} bytes in {} parts", printable(head.name, kQuoted),
                       head.value_length, head.part_count);
  });
}

std::string describe_fs_item(const Item& item) {
  switch (static_cast<ItemType>(item.key.type)) {
    case ItemType::inode:
      return or_error(decode_inode(InodeNumber{item.key.object}, item.value),
                      [](const Inode& inode) { return "inode: " + describe(inode); });
    case ItemType::xattr:
      return describe_xattr(item);
    case ItemType::dir_entry:
      return or_error(decode_entry(item.key, item.value), [](const DirEntry& entry) {
        return fmt::format("entry \"{}\" -> inode {}, type {}", printable(entry.name, kQuoted),
                           entry.ino.value, entry.type);
      });
    case ItemType::inline_data:
      return fmt::format("inline data: {} bytes", item.value.size());
    case ItemType::extent:
      return or_error(decode_file_extent(item), [](const Extent& extent) {
        return fmt::format("extent at {}: {} bytes at address {}{}", extent.file_offset,
                           extent.length, extent.logical.value,
                           extent.unwritten ? ", unwritten" : "");
      });
    case ItemType::orphan:
      return or_error(decode_orphan_mark(item.key, item.value), [&](OrphanKind kind) {
        return fmt::format("inode {} is to be {}", item.key.offset,
                           kind == OrphanKind::remove ? "removed" : "truncated to its size");
      });
    default:
      return fmt::format("unknown: {} bytes", item.value.size());
  }
}

std::string describe_extent_item(const Item& item) {
  const auto usage = load_exactly<ChunkUsageOnDisk>(item.value);
  if (item.key.type == kUsageType && usage) {
    return fmt::format("chunk {}: {} bytes used", item.key.offset, usage->used_bytes.value());
  }
  if (item.key.type != static_cast<uint8_t>(ItemType::extent_record)) {
    return fmt::format("unknown: {} bytes", item.value.size());
  }
  return or_error(decode_record(item), [](const ExtentRecord& record) {
    return fmt::format("record: {} bytes of inode {} at {}, born in {}{}", record.length,
                       record.inode.value, record.file_offset, record.birth.value,
                       record.unwritten ? ", unwritten" : "");
  });
}

}  // namespace

std::string describe(const Inode& inode) {
  std::string out = fmt::format("{}, mode {:04o}, {} links, uid {}, gid {}, size {}, allocated {}",
                                type_name(inode.mode), inode.mode & 07777u, inode.links, inode.uid,
                                inode.gid, inode.size, inode.allocated_bytes);
  if (inode.is_directory()) out += fmt::format(", parent {}", inode.parent.value);
  if (S_ISCHR(inode.mode) || S_ISBLK(inode.mode)) {
    out += fmt::format(", device {}:{}", inode.device >> 32, inode.device & 0xffffffff);
  }
  if (inode.is_inline()) out += ", inline";
  for (const auto& [flag, word] :
       {std::pair{kInodeImmutable, "immutable"}, std::pair{kInodeAppendOnly, "append-only"},
        std::pair{kInodeNoDump, "no dump"}, std::pair{kInodeNoAtime, "no atime"},
        std::pair{kInodeDirSync, "dirsync"}}) {
    if ((inode.flags & flag) != 0) out += fmt::format(", {}", word);
  }
  return out + fmt::format(", generation {}, atime {}, mtime {}, ctime {}, btime {}",
                           inode.generation, time_text(inode.atime), time_text(inode.mtime),
                           time_text(inode.ctime), time_text(inode.btime));
}

std::string describe_item(TreeId tree, const Item& item) {
  return tree == TreeId::fs ? describe_fs_item(item) : describe_extent_item(item);
}

}  // namespace moltfs::fs
