// SPDX-License-Identifier: MIT
// Parsing, checking and applying POSIX ACLs.
#include "fs/inode/acl.h"

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/base/codec.h"

namespace moltfs::fs {
namespace {

constexpr uint32_t kVersion = 2;
constexpr size_t kEntryBytes = 8;
constexpr uint32_t kNoId = 0xffffffff;
constexpr uint16_t kAllPermissions = 7;

}  // namespace

Result<Acl> Acl::parse(ConstBytes xattr) {
  ByteReader reader(xattr, Errc::invalid_argument);
  TRY(auto version, reader.u32());
  if (version != kVersion) return Errc::not_supported;
  if (reader.left() % kEntryBytes != 0) return Errc::invalid_argument;
  Acl acl;
  acl.entries_.reserve(reader.left() / kEntryBytes);
  while (!reader.at_end()) {
    TRY(auto tag, reader.u16());
    TRY(auto permissions, reader.u16());
    TRY(auto id, reader.u32());
    acl.entries_.push_back({static_cast<Tag>(tag), permissions, id});
  }
  TRY(acl.validate());
  for (Entry& entry : acl.entries_) {
    if (entry.tag != Tag::user && entry.tag != Tag::group) entry.id = kNoId;
  }
  return acl;
}

std::vector<std::byte> Acl::encode() const {
  ByteWriter writer;
  writer.u32(kVersion);
  for (const Entry& entry : entries_) {
    writer.u16(static_cast<uint16_t>(entry.tag));
    writer.u16(entry.permissions);
    writer.u32(entry.id);
  }
  return writer.take();
}

/// Exactly one user_obj, group_obj and other; a mask (one) if there are named users or groups, and
/// entries ordered by tag.
Result<void> Acl::validate() const {
  if (entries_.empty()) return ok();
  unsigned owners = 0, owning_groups = 0, masks = 0, others = 0, named = 0;
  uint16_t last_tag = 0;
  for (const Entry& entry : entries_) {
    if ((entry.permissions & ~kAllPermissions) != 0) return Errc::invalid_argument;
    const auto tag = static_cast<uint16_t>(entry.tag);
    if (tag < last_tag) return Errc::invalid_argument;
    last_tag = tag;
    switch (entry.tag) {
      case Tag::user_obj:
        ++owners;
        break;
      case Tag::group_obj:
        ++owning_groups;
        break;
      case Tag::mask:
        ++masks;
        break;
      case Tag::other:
        ++others;
        break;
      case Tag::user:
      case Tag::group:
        if (entry.id == kNoId) return Errc::invalid_argument;
        ++named;
        break;
      default:
        return Errc::invalid_argument;
    }
  }
  const bool sound =
      owners == 1 && owning_groups == 1 && others == 1 && masks <= 1 && (named == 0 || masks == 1);
  if (!sound) return Errc::invalid_argument;
  return ok();
}

bool Acl::is_extended() const {
  return std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) {
    return entry.tag == Tag::user || entry.tag == Tag::group || entry.tag == Tag::mask;
  });
}

Acl::Entry& Acl::entry_of(Tag tag) {
  auto at = std::find_if(entries_.begin(), entries_.end(),
                         [tag](const Entry& entry) { return entry.tag == tag; });
  ASSERT(at != entries_.end());  // parse() has checked this
  return *at;
}

Acl::Entry& Acl::group_class() {
  auto mask = std::find_if(entries_.begin(), entries_.end(),
                           [](const Entry& entry) { return entry.tag == Tag::mask; });
  return mask != entries_.end() ? *mask : entry_of(Tag::group_obj);
}

const Acl::Entry& Acl::group_class() const {
  return const_cast<Acl*>(this)->group_class();
}

uint32_t Acl::mode_bits() const {
  auto* self = const_cast<Acl*>(this);
  return static_cast<uint32_t>(self->entry_of(Tag::user_obj).permissions) << 6 |
         static_cast<uint32_t>(group_class().permissions) << 3 |
         self->entry_of(Tag::other).permissions;
}

void Acl::set_mode_bits(uint32_t mode) {
  entry_of(Tag::user_obj).permissions = mode >> 6 & kAllPermissions;
  group_class().permissions = mode >> 3 & kAllPermissions;
  entry_of(Tag::other).permissions = mode & kAllPermissions;
}

uint32_t Acl::inherit(uint32_t mode) {
  set_mode_bits(mode_bits() & mode);
  return (mode & ~0777u) | mode_bits();
}

}  // namespace moltfs::fs
