// SPDX-License-Identifier: MIT
// The items of the two trees: key types, layouts. Described in fs/FORMAT.md.
//
// fs tree            object         type        offset
//   inode            ino            inode       0
//   xattr            ino            xattr       name hash (48 bits), slot (8 bits), part (8 bits)
//   dir entry        directory      dir_entry   name hash (23 bits), slot (8 bits): readdir cookie
//   file extent      ino            extent      file offset, bytes
//   inline data      ino            inline_data 0: content of a small file, target of a symlink
//   orphan mark      kOrphanObject  orphan      ino: to be removed, or cut to its size
// extent tree
//   extent record    logical addr   extent_record  0
//   chunk usage      (fs/tree/format.h)
#pragma once

#include <boost/endian/arithmetic.hpp>
#include <cstdint>

#include "alloc/base/strong_types.h"
#include "fs/tree/format.h"
#include "fs/tree/key.h"

namespace moltfs::fs {

namespace le {
using boost::endian::little_int64_t;
using boost::endian::little_uint16_t;
using boost::endian::little_uint32_t;
using boost::endian::little_uint64_t;
using boost::endian::little_uint8_t;
}  // namespace le

enum class ItemType : uint8_t {
  inode = 1,
  xattr = 2,
  dir_entry = 3,
  inline_data = 4,
  extent = 5,
  orphan = 6,
  extent_record = 16,
};

inline constexpr InodeNumber kRootInode{1};
inline constexpr InodeNumber kFirstFreeInode{
    256};  ///< below: reserved (control files have 2 to 10)
/// True if an inode can have this number: there are no items of any other.
constexpr bool is_inode_number(InodeNumber ino) {
  return ino == kRootInode || (ino >= kFirstFreeInode && ino.value < kInodeNumbersEnd);
}
inline constexpr uint64_t kOrphanObject = 0;
inline constexpr uint64_t kMaxNameBytes = 255;
inline constexpr uint64_t kMaxInlineBytes = 2048;
/// In one inline_data item, or in two (offsets 0 and 1).
inline constexpr uint64_t kMaxSymlinkBytes = 4095;
inline constexpr uint64_t kMaxXattrValueBytes = 65536;
inline constexpr uint64_t kMaxExtentBytes = 1024 * 1024;
inline constexpr uint64_t kMaxFileBytes = (uint64_t{1} << 63) - 1;
inline constexpr uint32_t kMaxLinks = 65000;  // as ext4: programs rely on EMLINK existing
inline constexpr uint32_t kMaxDirectoryLinks = 0x7fffffff;  // its subdirectories, and two

struct TimeOnDisk {
  le::little_int64_t seconds;
  le::little_uint32_t nanoseconds;
};
static_assert(sizeof(TimeOnDisk) == 12);

/// Value of an inode item.
struct InodeOnDisk {
  le::little_uint64_t size;
  le::little_uint64_t allocated_bytes;  ///< data blocks (also preallocated), a multiple of 4096
  le::little_uint64_t parent;           ///< directories: the directory that holds it; else 0
  le::little_uint64_t generation;       ///< of the inode number, for file handles
  le::little_uint32_t mode;             ///< type and permissions as in stat
  le::little_uint32_t links;
  le::little_uint32_t uid;
  le::little_uint32_t gid;
  le::little_uint64_t device;  ///< device nodes: major << 32 | minor; else 0
  le::little_uint32_t flags;   ///< kInodeInline, kInodeSettable
  TimeOnDisk atime, mtime, ctime, btime;
  le::little_uint32_t reserved;
};
static_assert(sizeof(InodeOnDisk) == 112);
inline constexpr uint32_t kInodeInline = 1;  ///< content is in an inline_data item
/// What chattr(1) sets (fs/inode/inode_flags.h).
inline constexpr uint32_t kInodeImmutable = 2;
inline constexpr uint32_t kInodeAppendOnly = 4;
inline constexpr uint32_t kInodeNoDump = 8;
inline constexpr uint32_t kInodeNoAtime = 16;
inline constexpr uint32_t kInodeDirSync = 32;
inline constexpr uint32_t kInodeSettable =
    kInodeImmutable | kInodeAppendOnly | kInodeNoDump | kInodeNoAtime | kInodeDirSync;

/// Value of a dir_entry item: this, then the name. Entries whose hashes are equal except for the
/// low 8 bits get different slot numbers.
struct DirEntryOnDisk {
  le::little_uint64_t inode;
  le::little_uint8_t type;  ///< DT_*
  le::little_uint8_t name_length;
};
static_assert(sizeof(DirEntryOnDisk) == 10);

/// The most names with the same hash: slot numbers have 8 bits.
inline constexpr uint64_t kSlotsPerHash = 256;
/// Offsets of dir_entry keys have 31 bits, so that cookies fit the off_t and long of 32-bit
/// programs. Values below 256 are the cookies of the start, "." and "..".
inline constexpr uint64_t kFirstEntryOffset = kSlotsPerHash;
inline constexpr uint64_t kEntryHashBits = 0x7fff'ff00;
inline constexpr uint64_t kLastEntryOffset = kEntryHashBits + kSlotsPerHash - 1;
inline constexpr uint64_t kXattrHashBits = 0xffff'ffff'ffff'0000;

/// What an entry adds to the size of its directory, in bytes.
constexpr uint64_t entry_size_bytes(size_t name_length) {
  return sizeof(DirEntryOnDisk) + name_length;
}

/// Value of an xattr item with part number 0: this, the name, then the first bytes of the value.
/// Items with part numbers 1, 2, ... hold only further bytes of the value. Attributes with equal
/// hashes get different slot numbers.
struct XattrOnDisk {
  le::little_uint32_t value_length;
  le::little_uint8_t name_length;
  le::little_uint8_t part_count;  ///< items of this attribute, this one included
};
static_assert(sizeof(XattrOnDisk) == 6);

/// Value of a file extent item.
struct FileExtentOnDisk {
  le::little_uint64_t logical;
  le::little_uint32_t length;  ///< bytes, multiple of 4096, at most kMaxExtentBytes
  le::little_uint32_t flags;   ///< kExtentUnwritten
};
static_assert(sizeof(FileExtentOnDisk) == 16);
inline constexpr uint32_t kExtentUnwritten = 1;  ///< preallocated: reads as zeros

/// Value of an extent record: this, then one XXH3-64 for each 4 KiB block (none if unwritten).
/// Each file extent has one record of the same length: cutting one cuts the other.
struct ExtentRecordOnDisk {
  le::little_uint64_t birth;
  le::little_uint64_t inode;
  le::little_uint64_t file_offset;
  le::little_uint32_t length;
  le::little_uint32_t flags;  ///< kExtentUnwritten
};
static_assert(sizeof(ExtentRecordOnDisk) == 32);

/// Value of an orphan item.
struct OrphanOnDisk {
  le::little_uint8_t what;  ///< OrphanKind
};
enum class OrphanKind : uint8_t {
  remove = 1,    ///< has no name: to be removed when it is no longer held
  truncate = 2,  ///< its extents are to be cut to its size: a long truncate is unfinished
};

constexpr Key key_of(ItemType type, uint64_t object, uint64_t offset = 0) {
  return {object, static_cast<uint8_t>(type), offset};
}
constexpr Key inode_key(InodeNumber ino) {
  return key_of(ItemType::inode, ino.value);
}
constexpr Key extent_key(InodeNumber ino, uint64_t file_offset) {
  return key_of(ItemType::extent, ino.value, file_offset);
}
constexpr Key inline_key(InodeNumber ino) {
  return key_of(ItemType::inline_data, ino.value);
}
constexpr Key entry_key(InodeNumber directory, uint64_t offset) {
  return key_of(ItemType::dir_entry, directory.value, offset);
}
constexpr Key xattr_key(InodeNumber ino, uint64_t offset) {
  return key_of(ItemType::xattr, ino.value, offset);
}
constexpr Key orphan_key(InodeNumber ino) {
  return key_of(ItemType::orphan, kOrphanObject, ino.value);
}
constexpr Key record_key(LogicalOffset at) {
  return key_of(ItemType::extent_record, at.value);
}

}  // namespace moltfs::fs
