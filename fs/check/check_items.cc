// SPDX-License-Identifier: MIT
// Checking the items of one inode.
#include "fs/check/check_items.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "alloc/base/checksum.h"
#include "fs/inode/acl.h"

namespace moltfs::fs::checking {
namespace {

bool is_known_attribute(std::string_view name) {
  if (name == kAccessAclName || name == kDefaultAclName) return true;
  for (const std::string_view prefix : {"user.", "trusted.", "security."}) {
    if (name.starts_with(prefix) && name.size() > prefix.size()) {
      return name.find('\0') == std::string_view::npos;
    }
  }
  return false;
}

bool is_device_node(const Inode& inode) {
  return S_ISCHR(inode.mode) || S_ISBLK(inode.mode);
}

}  // namespace

void ItemCheck::item(const Item& item) {
  if (item.key.object == kOrphanObject) return mark(item);
  if (item.key.object != object_.ino.value) {
    end_object();
    object_ = {};
    object_.ino = InodeNumber{item.key.object};
  }
  const auto type = static_cast<ItemType>(item.key.type);
  if (type == ItemType::inode) return inode(item);
  ++object_.other_items;
  if (type != ItemType::xattr) end_attribute();
  switch (type) {
    case ItemType::xattr:
      return xattr(item);
    case ItemType::dir_entry:
      return entry(item);
    case ItemType::inline_data:
      return inline_data(item);
    case ItemType::extent:
      return extent(item);
    default:
      add_finding(fmt::format("has an item of unknown type {}", item.key.type));
  }
}

void ItemCheck::end() {
  end_object();
  object_ = {};
}

void ItemCheck::mark(const Item& item) {
  const InodeNumber ino{item.key.offset};
  if (item.key.type != static_cast<uint8_t>(ItemType::orphan)) {
    findings_.add("filesystem tree",
                  fmt::format("has an item {} of unknown type", describe(item.key)));
    return;
  }
  const auto kind = decode_orphan_mark(item.key, item.value);
  if (kind) {
    states_.add_mark(ino, kind.value());
  } else {
    findings_.add(ino, kind.error().message());
  }
}

void ItemCheck::inode(const Item& item) {
  object_.has_inode = true;
  const bool possible = object_.ino == kRootInode || object_.ino >= kFirstFreeInode;
  if (item.key.offset != 0 || !possible) {
    add_finding(fmt::format("has an inode item with an impossible key {}", describe(item.key)));
    states_.add_damaged_inode(object_.ino);
    return;
  }
  auto decoded = decode_inode(object_.ino, item.value);
  if (!decoded) {
    add_finding(decoded.error().message());
    states_.add_damaged_inode(object_.ino);
    return;
  }
  states_.add_inode(decoded.value());
  object_.inode = std::move(decoded).value();
}

bool ItemCheck::is_doomed() const {
  const InodeState* state = states_.find(object_.ino);
  return state != nullptr && state->is_doomed;
}

bool ItemCheck::note_name(const Key& key, const std::string& name) {
  if (key != object_.names_key) {
    object_.names_key = key;
    object_.names.clear();
  }
  const bool again =
      std::find(object_.names.begin(), object_.names.end(), name) != object_.names.end();
  object_.names.push_back(name);
  return again;
}

// ---- Attributes

void ItemCheck::xattr(const Item& item) {
  if (xattr_part_of(item.key) == 0) return xattr_head(item);
  Key expected;
  if (attribute_) {
    expected = attribute_->first;
    expected.offset += attribute_->parts;
  }
  if (!attribute_ || item.key != expected || attribute_->parts == attribute_->part_count) {
    end_attribute();
    if (!is_doomed() && !lost_.may_hold(TreeId::fs, xattr_key(object_.ino, 0), item.key)) {
      add_finding(fmt::format("has part {} of an attribute without the parts before it",
                              xattr_part_of(item.key)));
    }
    return;
  }
  if (!attribute_->is_full) {
    add_finding(fmt::format("part {} of its attribute {} is not full, but is not the last",
                            attribute_->parts - 1, attribute_->name));
  }
  ++attribute_->parts;
  attribute_->bytes += item.value.size();
  attribute_->is_full = item.value.size() == kMaxItemBytes;
}

void ItemCheck::xattr_head(const Item& item) {
  end_attribute();
  const auto decoded = decode_xattr(item.key, item.value);
  if (!decoded) {
    add_finding(decoded.error().message());
    return;
  }
  const XattrHead& head = decoded.value();
  const std::string name(head.name);
  attribute_ = Attribute{item.key,
                         name,
                         head.part_count,
                         1,
                         head.value_length,
                         head.first_part.size(),
                         item.value.size() == kMaxItemBytes};
  if (!is_known_attribute(name)) add_finding("has an attribute with an invalid name");
  if ((hash_of(name, hash_seed_) & kXattrHashBits) != (item.key.offset & kXattrHashBits)) {
    add_finding(fmt::format("its attribute {} is stored under a wrong hash", name));
  }
  if (note_name(xattr_key(object_.ino, item.key.offset & kXattrHashBits), name)) {
    add_finding(fmt::format("has the attribute {} twice", name));
  }
  if (!object_.inode) return;
  const Inode& inode = *object_.inode;
  if (name.starts_with("user.") && !inode.is_regular() && !inode.is_directory()) {
    add_finding(fmt::format("has the attribute {}, which its file type does not allow", name));
  }
  check_acl(head);
}

void ItemCheck::end_attribute() {
  if (!attribute_) return;
  const Attribute& a = *attribute_;
  const Key last{a.first.object, a.first.type, a.first.offset + a.part_count};
  if ((a.parts != a.part_count || a.bytes != a.value_length) &&
      !lost_.may_hold(TreeId::fs, a.first, last)) {
    add_finding(fmt::format("its attribute {} has {} bytes in {} parts instead of {} in {}", a.name,
                            a.bytes, a.parts, a.value_length, a.part_count));
  }
  attribute_.reset();
}

void ItemCheck::check_acl(const XattrHead& head) {
  const bool is_default = head.name == kDefaultAclName;
  if (!is_default && head.name != kAccessAclName) return;
  const Inode& inode = *object_.inode;
  const auto acl = Acl::parse(head.first_part);
  if (!acl || acl.value().empty()) {
    add_finding(fmt::format("its {} is not a valid ACL", head.name));
  } else if (is_default ? !inode.is_directory() : inode.is_symlink()) {
    add_finding(fmt::format("has {}, which its file type does not allow", head.name));
  } else if (!is_default && acl.value().mode_bits() != (inode.mode & 0777u)) {
    add_finding(fmt::format("its mode is {:o}, its {} says {:o}", inode.mode & 0777u, head.name,
                            acl.value().mode_bits()));
  }
}

// ---- Names

void ItemCheck::entry(const Item& item) {
  const auto decoded = decode_entry(item.key, item.value);
  if (!decoded) {
    add_finding(decoded.error().message());
    return;
  }
  const DirEntry& entry = decoded.value();
  const uint64_t offset = entry_offset(entry.name, hash_seed_);
  if (entry.cookie < offset || entry.cookie - offset >= kSlotsPerHash) {
    add_finding(fmt::format("its entry \"{}\" is stored under a wrong hash", entry.name));
  }
  if (note_name(entry_key(object_.ino, round_down(entry.cookie, kSlotsPerHash)), entry.name)) {
    add_finding(fmt::format("has two entries \"{}\"", entry.name));
  }
  object_.entries_bytes += entry_size_bytes(entry.name.size());
  states_.add_entry(object_.ino, entry);
}

void ItemCheck::check_directory(const Inode& inode) {
  if (!inode.is_directory()) {
    if (object_.entries_bytes > 0) add_finding("is not a directory, but has entries");
  } else if (object_.entries_bytes != inode.size) {
    add_finding(
        fmt::format("its size is {}, its entries add up to {}", inode.size, object_.entries_bytes));
  }
}

// ---- Content

void ItemCheck::inline_data(const Item& item) {
  if (item.key.offset != object_.inline_items) {
    add_finding(fmt::format("has inline data with an impossible key {}", describe(item.key)));
    return;
  }
  ++object_.inline_items;
  object_.inline_bytes += item.value.size();
  object_.has_zero_byte |=
      std::find(item.value.begin(), item.value.end(), std::byte{0}) != item.value.end();
}

void ItemCheck::extent(const Item& item) {
  const auto decoded = decode_file_extent(item);
  ++object_.extents;
  if (!decoded) {
    add_finding(decoded.error().message());
    return;
  }
  const Extent& extent = decoded.value();
  ++extent_count_;
  sums_.add_file_extent(
      {extent.logical, object_.ino, extent.file_offset, extent.length, extent.unwritten});
  if (extent.file_offset < object_.extent_end) {
    findings_.add_at(object_.ino, extent.file_offset, "two extents overlap");
  }
  object_.extent_end = std::max(object_.extent_end, extent.file_end());
  if (!extent.unwritten) object_.written_end = extent.file_end();
  object_.allocated_bytes += extent.length;
}

void ItemCheck::check_content(const Inode& inode) {
  if (!inode.is_regular() && object_.extents > 0) {
    add_finding("is not a regular file, but has extents");
  }
  if (object_.allocated_bytes != inode.allocated_bytes) {
    add_finding(fmt::format("{} bytes are allocated, its extents have {}", inode.allocated_bytes,
                            object_.allocated_bytes));
  }
  const InodeState* state = states_.find(inode.ino);
  const bool shrinking = state->is_doomed || state->is_being_cut;
  if (inode.is_regular() && !shrinking && object_.written_end > round_up(inode.size, kBlockSize)) {
    add_finding(
        fmt::format("has data up to {}, but its size is {}", object_.written_end, inode.size));
  }
  check_inline(inode);
}

void ItemCheck::check_inline(const Inode& inode) {
  if (!inode.is_inline()) {
    if (object_.inline_items > 0) add_finding("has inline data, but its inode says it has none");
    if (inode.is_symlink() && inode.links > 0) add_finding("is a symlink without a target");
    return;
  }
  if (!inode.is_regular() && !inode.is_symlink()) {
    add_finding("is marked as inline, but its file type does not allow it");
  } else if (object_.inline_items == 0) {
    add_finding("its inline data is missing");
  } else if (object_.inline_bytes != inode.size) {
    add_finding(fmt::format("its size is {}, its inline data has {} bytes", inode.size,
                            object_.inline_bytes));
  }
  if (object_.extents > 0) add_finding("has both extents and inline data");
  if (inode.is_regular() && object_.inline_items > 1) add_finding("has two items of inline data");
  if (inode.is_symlink() && object_.has_zero_byte) add_finding("its target has a zero byte");
}

// ---- The inode as a whole

void ItemCheck::end_object() {
  end_attribute();
  if (!object_.inode) {
    if (!object_.has_inode && object_.other_items > 0 &&
        !lost_.may_hold(TreeId::fs, inode_key(object_.ino))) {
      add_finding(
          fmt::format("there are {} items of this inode, but no inode", object_.other_items));
    }
    return;
  }
  const Inode& inode = *object_.inode;
  if (!is_device_node(inode) && inode.device != 0) {
    add_finding("is not a device node, but has a device number");
  }
  if (lost_.may_hold(TreeId::fs, inode_key(inode.ino),
                     key_of(ItemType::extent, inode.ino.value, UINT64_MAX))) {
    return;
  }
  check_directory(inode);
  check_content(inode);
}

}  // namespace moltfs::fs::checking
