// SPDX-License-Identifier: MIT
// Extended attributes: namespaces, ACLs and the mode, values in parts.
#include "fs/inode/xattrs.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <bitset>

#include "alloc/base/checksum.h"
#include "alloc/base/codec.h"
#include "alloc/base/load.h"
#include "fs/inode/acl.h"
#include "fs/inode/inode_flags.h"

namespace moltfs::fs {
namespace {

// Items removed in one critical section: few, so that a full volume has the nodes that it reserves.
constexpr unsigned kDropBatch = 8;

enum class Namespace : uint8_t { user, trusted, security, access_acl, default_acl };

Result<Namespace> namespace_of(std::string_view name) {
  if (name.size() > kMaxNameBytes) return Errc::result_too_large;
  if (name.find('\0') != std::string_view::npos) return Errc::invalid_argument;
  if (name == kAccessAclName) return Namespace::access_acl;
  if (name == kDefaultAclName) return Namespace::default_acl;
  constexpr std::pair<std::string_view, Namespace> kPrefixes[] = {
      {"user.", Namespace::user},
      {"trusted.", Namespace::trusted},
      {"security.", Namespace::security},
  };
  for (const auto& [prefix, space] : kPrefixes) {
    if (!name.starts_with(prefix)) continue;
    if (name.size() == prefix.size()) return Errc::invalid_argument;
    return space;
  }
  return Errc::not_supported;
}

Key first_key(InodeNumber ino, std::string_view name, uint64_t seed) {
  return xattr_key(ino, hash_of(name, seed) & kXattrHashBits);
}

Key part_key(Key first, unsigned part) {
  first.offset += part;
  return first;
}

/// The place of a name: where it is, or a free slot for it.
struct Place {
  std::optional<Key> found;
  unsigned part_count = 0;
  std::optional<Key> free;
};

Result<Place> find_place(const FilesystemContext& context, Access& access, InodeNumber ino,
                         std::string_view name, unsigned first_slot) {
  const Key first = first_key(ino, name, access.counters().hash_seed);
  Key last = first;
  last.offset |= ~kXattrHashBits;
  Place place;
  std::bitset<kSlotsPerHash> taken;
  TRY(context.fs_tree().scan(access, first, last, [&](const Item& item) -> Result<bool> {
    if (xattr_part_of(item.key) != 0) return true;
    TRY(const auto head, decode_xattr(item.key, item.value));
    taken.set((item.key.offset - first.offset) / kSlotsPerHash);
    if (head.name != name) return true;
    place.found = item.key;
    place.part_count = head.part_count;
    return false;
  }));
  for (unsigned slot = first_slot; slot < kSlotsPerHash && !place.found && !place.free; ++slot) {
    if (!taken[slot]) place.free = part_key(first, slot * kSlotsPerHash);
  }
  return place;
}

/// Runs `change` in a critical section, and again with a larger budget if it needs more.
/// change(txn, item_changes_allowed) returns how many item changes it needs; if that is more than
/// allowed it has changed nothing.
template <class F>
Result<void> with_growing_budget(FilesystemContext& context, unsigned first_guess,
                                 alloc::ReserveClass reserve_class, const F& change) {
  unsigned budget = first_guess;
  for (;;) {
    TRY(const unsigned needed,
        context.transactions.write({budget, reserve_class}, [&](Txn& txn) -> Result<unsigned> {
          return change(txn, budget);
        }));
    if (needed <= budget) return ok();
    budget = needed;
  }
}

/// Checks an ACL that is to be set and applies it to the mode. Returns the value to store; nothing
/// if the mode expresses all of it.
Result<std::optional<std::vector<std::byte>>> acl_to_store(Inode& inode, Namespace space,
                                                           ConstBytes value) {
  if (inode.is_symlink()) return Errc::not_supported;
  TRY(auto acl, Acl::parse(value));
  if (space == Namespace::default_acl && !inode.is_directory()) {
    if (acl.empty()) return std::optional<std::vector<std::byte>>{};
    return Errc::access_denied;
  }
  if (acl.empty()) return std::optional<std::vector<std::byte>>{};
  auto encoded = acl.encode();
  if (encoded.size() > kMaxAclBytes) return Errc::no_space;
  if (space == Namespace::default_acl) return std::optional(std::move(encoded));
  inode.mode = (inode.mode & ~0777u) | acl.mode_bits();
  if (!acl.is_extended()) return std::optional<std::vector<std::byte>>{};
  return std::optional(std::move(encoded));
}

Result<unsigned> set_acl_in(FilesystemContext& context, Txn& txn, InodeNumber ino,
                            std::string_view name, Namespace space, ConstBytes value,
                            bool kill_sgid, unsigned allowed) {
  TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
  TRY(may_change_xattrs(inode));
  TRY(auto kept, acl_to_store(inode, space, value));
  std::optional<ConstBytes> new_value;
  if (kept) new_value = ConstBytes(*kept);
  TRY(auto change, XattrChange::prepare(context, txn, ino, name, new_value));
  const unsigned needed = change.item_changes() + 1;
  if (needed > allowed) return needed;
  change.apply(context, txn);
  if (kill_sgid && space == Namespace::access_acl) inode.mode &= ~uint32_t{S_ISGID};
  inode.ctime = context.now();
  store_inode(txn, context.fs_tree(), inode);
  return needed;
}

}  // namespace

Result<XattrHead> decode_xattr(const Key& key, ConstBytes value) {
  const auto bad = [&](const char* what) {
    return Error(Errc::bad_item,
                 fmt::format("attribute {:#x} of inode {}: {}", key.offset, key.object, what));
  };
  const auto loaded = load<XattrOnDisk>(value);
  if (!loaded) return bad("item too short");
  const XattrOnDisk& disk = *loaded;
  const ConstBytes tail = value.subspan(sizeof(disk));
  if (disk.name_length == 0 || tail.size() < disk.name_length) return bad("wrong name length");
  if (disk.value_length > kMaxXattrValueBytes) return bad("value too long");
  XattrHead head;
  head.name = {reinterpret_cast<const char*>(tail.data()), disk.name_length};
  head.value_length = disk.value_length;
  head.part_count = disk.part_count;
  head.first_part = tail.subspan(disk.name_length);
  if (head.part_count == 0 || head.first_part.size() > head.value_length ||
      (head.part_count == 1) != (head.first_part.size() == head.value_length)) {
    return bad("its parts do not add up to the value");
  }
  return head;
}

Result<std::optional<std::vector<std::byte>>> load_xattr(const FilesystemContext& context,
                                                         Access& access, InodeNumber ino,
                                                         std::string_view name) {
  using Value = std::optional<std::vector<std::byte>>;
  TRY(auto place, find_place(context, access, ino, name, 0));
  if (!place.found) return Value{};
  std::vector<std::byte> value;
  uint32_t expected = 0;
  for (unsigned part = 0; part < place.part_count; ++part) {
    const Key key = part_key(*place.found, part);
    TRY(auto item, context.fs_tree().find(access, key));
    if (!item) {
      return Error(Errc::bad_item, fmt::format("attribute {} of inode {}: part {} is missing", name,
                                               ino.value, part));
    }
    ConstBytes bytes = *item;
    if (part == 0) {
      TRY(auto head, decode_xattr(key, bytes));
      expected = head.value_length;
      bytes = head.first_part;
      value.reserve(expected);
    }
    value.insert(value.end(), bytes.begin(), bytes.end());
  }
  if (value.size() != expected) {
    return Error(Errc::bad_item, fmt::format("attribute {} of inode {}: {} bytes instead of {}",
                                             name, ino.value, value.size(), expected));
  }
  return Value(std::move(value));
}

void XattrChange::split(Key at, std::string_view name, ConstBytes value) {
  const size_t room = kMaxItemBytes - sizeof(XattrOnDisk) - name.size();
  const ConstBytes first = value.first(std::min(room, value.size()));
  ConstBytes rest = value.subspan(first.size());
  XattrOnDisk disk;
  disk.value_length = static_cast<uint32_t>(value.size());
  disk.name_length = static_cast<uint8_t>(name.size());
  disk.part_count = static_cast<uint8_t>(1 + (rest.size() + kMaxItemBytes - 1) / kMaxItemBytes);
  ByteWriter writer;
  writer.object(disk);
  writer.bytes(std::as_bytes(std::span(name)));
  writer.bytes(first);
  puts_.push_back({at, writer.take()});
  for (unsigned part = 1; !rest.empty(); ++part) {
    const ConstBytes bytes = rest.first(std::min(kMaxItemBytes, rest.size()));
    puts_.push_back({part_key(at, part), {bytes.begin(), bytes.end()}});
    rest = rest.subspan(bytes.size());
  }
}

Result<XattrChange> XattrChange::prepare(const FilesystemContext& context, Txn& txn,
                                         InodeNumber ino, std::string_view name,
                                         std::optional<ConstBytes> value, unsigned first_slot) {
  TRY(auto place, find_place(context, txn, ino, name, first_slot));
  XattrChange change;
  change.existed_ = place.found.has_value();
  if (!place.found && !value) return change;
  if (!place.found && !place.free) return Errc::no_space;
  const Key at = place.found ? *place.found : *place.free;
  if (value) change.split(at, name, *value);
  for (unsigned part = static_cast<unsigned>(change.puts_.size()); part < place.part_count;
       ++part) {
    TRY(auto item, context.fs_tree().find(txn, part_key(at, part)));
    if (item) change.erases_.push_back(part_key(at, part));
  }
  for (const Put& put : change.puts_) {
    TRY(context.fs_tree().prepare(txn, put.key, Tree::Intent::put));
  }
  for (const Key& key : change.erases_) {
    TRY(context.fs_tree().prepare(txn, key, Tree::Intent::erase));
  }
  return change;
}

void XattrChange::apply(const FilesystemContext& context, Txn& txn) const {
  for (const Key& key : erases_) context.fs_tree().erase(txn, key);
  for (const Put& put : puts_) context.fs_tree().put(txn, put.key, put.value);
}

Result<std::vector<std::byte>> get_xattr(FilesystemContext& context, InodeNumber ino,
                                         std::string_view name) {
  TRY(namespace_of(name));
  return context.transactions.read([&](Access& access) -> Result<std::vector<std::byte>> {
    TRY(auto value, load_xattr(context, access, ino, name));
    if (value) return std::move(*value);
    TRY(load_inode(access, context.fs_tree(), ino));
    return Errc::no_attribute;
  });
}

Result<void> set_xattr(FilesystemContext& context, InodeNumber ino, std::string_view name,
                       ConstBytes value, XattrMode mode, bool kill_sgid) {
  TRY(const auto space, namespace_of(name));
  if (value.size() > kMaxXattrValueBytes) return Errc::value_too_large;
  const bool is_acl = space == Namespace::access_acl || space == Namespace::default_acl;
  const auto guess = static_cast<unsigned>(4 + value.size() / kMaxItemBytes);
  return with_growing_budget(
      context, guess, alloc::ReserveClass::normal,
      [&](Txn& txn, unsigned allowed) -> Result<unsigned> {
        if (is_acl) return set_acl_in(context, txn, ino, name, space, value, kill_sgid, allowed);
        TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
        TRY(may_change_xattrs(inode));
        if (space == Namespace::user && !inode.is_regular() && !inode.is_directory()) {
          return Errc::not_permitted;
        }
        TRY(auto change, XattrChange::prepare(context, txn, ino, name, value));
        const bool must_be_new = mode == XattrMode::create || mode == XattrMode::neither;
        const bool must_exist = mode == XattrMode::replace || mode == XattrMode::neither;
        if (must_be_new && change.existed()) return Errc::already_exists;
        if (must_exist && !change.existed()) return Errc::no_attribute;
        const unsigned needed = change.item_changes() + 1;
        if (needed > allowed) return needed;
        change.apply(context, txn);
        inode.ctime = context.now();
        store_inode(txn, context.fs_tree(), inode);
        return needed;
      });
}

Result<void> remove_xattr(FilesystemContext& context, InodeNumber ino, std::string_view name) {
  TRY(const auto space, namespace_of(name));
  const bool is_acl = space == Namespace::access_acl || space == Namespace::default_acl;
  return with_growing_budget(context, 3, alloc::ReserveClass::reclaiming,
                             [&](Txn& txn, unsigned allowed) -> Result<unsigned> {
                               TRY(auto inode, prepare_inode(txn, context.fs_tree(), ino));
                               // The kernel removes a capability before a write.
                               if (name != kCapabilityName) {
                                 TRY(may_change_xattrs(inode));
                               }
                               TRY(auto change,
                                   XattrChange::prepare(context, txn, ino, name, std::nullopt));
                               if (!change.existed()) {
                                 if (is_acl) return 0u;  // there is no ACL, as requested
                                 return Errc::no_attribute;
                               }
                               const unsigned needed = change.item_changes() + 1;
                               if (needed > allowed) return needed;
                               change.apply(context, txn);
                               inode.ctime = context.now();
                               store_inode(txn, context.fs_tree(), inode);
                               return needed;
                             });
}

Result<std::vector<std::string>> list_xattrs(FilesystemContext& context, InodeNumber ino) {
  return context.transactions.read([&](Access& access) -> Result<std::vector<std::string>> {
    TRY(load_inode(access, context.fs_tree(), ino));
    std::vector<std::string> names;
    const auto add_name = [&](const Item& item) -> Result<bool> {
      if (xattr_part_of(item.key) != 0) return true;
      TRY(const auto head, decode_xattr(item.key, item.value));
      names.emplace_back(head.name);
      return true;
    };
    const Key first = xattr_key(ino, 0), last = xattr_key(ino, ~uint64_t{0});
    TRY(context.fs_tree().scan(access, first, last, add_name));
    return names;
  });
}

Result<void> drop_xattrs(FilesystemContext& context, InodeNumber ino) {
  const Tree& tree = context.fs_tree();
  const Key first = xattr_key(ino, 0), last = xattr_key(ino, ~uint64_t{0});
  const auto any_left = [&](Access& access) -> Result<bool> {
    TRY(auto item, tree.at_or_after(access, first));
    return item && item->key <= last;
  };
  const auto drop_some = [&](Txn& txn) -> Result<void> {
    std::vector<Key> keys;
    TRY(tree.scan(txn, first, last, [&](const Item& item) {
      keys.push_back(item.key);
      return keys.size() < kDropBatch;
    }));
    for (const Key& key : keys) {
      TRY(tree.prepare(txn, key, Tree::Intent::erase));
    }
    for (const Key& key : keys) tree.erase(txn, key);
    return ok();
  };
  for (;;) {
    TRY(const bool more, context.transactions.read(any_left));
    if (!more) return ok();
    TRY(context.transactions.write({kDropBatch, alloc::ReserveClass::reclaiming}, drop_some));
  }
}

}  // namespace moltfs::fs
