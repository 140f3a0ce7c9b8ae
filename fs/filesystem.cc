// SPDX-License-Identifier: MIT
// Filesystem: passes each operation on; retries if there was no space, syncs if the policy says so.
#include "fs/filesystem.h"

#include <sys/stat.h>

#include <algorithm>

#include "alloc/base/log.h"
#include "fs/attributes.h"
#include "fs/content/blocks.h"
#include "fs/content/content.h"
#include "fs/inode/inode_flags.h"
#include "fs/inode/xattrs.h"
#include "fs/names/directory.h"

namespace moltfs::fs {
namespace {

/// Metadata bytes that statistics() assumes for an inode and its directory entry.
constexpr uint64_t kBytesPerInode = 512;

/// Pinned bytes that make another commit worthwhile. Each commit pins fewer than that itself.
constexpr uint64_t kWorthACommit = 1 << 20;

}  // namespace

Filesystem::Filesystem(Runtime& runtime, Transactions& transactions, const Options& options)
    : context_(runtime, transactions, options, reclaimer_),
      reclaimer_(context_),
      recorded_extents_(transactions) {
  space().set_allocated_source(&recorded_extents_);
}

Filesystem::~Filesystem() {
  space().set_allocated_source(nullptr);
}

alloc::Space& Filesystem::space() {
  return context_.transactions.volume().space();
}

template <class F>
auto Filesystem::with_space(const F& operation) -> std::invoke_result_t<F> {
  auto result = operation();
  if (result || result.error().code != Errc::no_space || !reclaimer_.busy()) return result;
  TRY(reclaim());
  return operation();
}

bool Filesystem::syncs_names_of(InodeNumber directory) {
  const Policy policy = context_.policy;
  if (policy.sync_names || policy.sync_all) return true;
  if (!context_.met_synced_directory) return false;
  const auto attributes = load_attributes(context_, directory);
  return attributes && (attributes.value().flags & kInodeDirSync) != 0;
}

Result<void> Filesystem::after_name(InodeNumber directory) {
  return syncs_names_of(directory) ? context_.transactions.sync() : ok();
}

Result<void> Filesystem::after_name(InodeNumber directory, Result<void> changed) {
  return changed ? after_name(directory) : changed;
}

Result<Attributes> Filesystem::after_name(InodeNumber directory, Result<Attributes> made) {
  if (!made) return made;
  const auto durable = after_name(directory);
  if (durable) return made;
  context_.inodes.release(made.value().ino, 1);
  return durable.error();
}

template <class T>
Result<T> Filesystem::after_attributes(Result<T> changed) {
  const Policy policy = context_.policy;
  if (changed && policy.sync_all) {
    TRY(context_.transactions.sync());
  }
  return changed;
}

Result<std::unique_ptr<Filesystem>> Filesystem::create(Runtime& runtime, Transactions& transactions,
                                                       const Caller& owner) {
  std::unique_ptr<Filesystem> made(new Filesystem(runtime, transactions, Options{}));
  FilesystemContext& context = made->context_;
  Inode root;
  root.ino = root.parent = kRootInode;
  root.generation = context.inode_generation;
  root.mode = S_IFDIR | 0755;
  root.links = 2;
  root.uid = owner.uid;
  root.gid = owner.gid;
  root.atime = root.mtime = root.ctime = root.btime = context.now();
  const auto make_root = [&](Txn& txn) -> Result<void> {
    TRY(context.fs_tree().prepare(txn, inode_key(kRootInode), Tree::Intent::put));
    store_inode(txn, context.fs_tree(), root);
    FsCounters& counters = txn.counters_for_change();
    counters.next_inode = kFirstFreeInode.value;
    counters.inode_count = 1;
    return ok();
  };
  TRY(transactions.write(Budget{1}, make_root));
  return made;
}

Result<std::unique_ptr<Filesystem>> Filesystem::open(Runtime& runtime, Transactions& transactions,
                                                     const Options& options) {
  std::unique_ptr<Filesystem> opened(new Filesystem(runtime, transactions, options));
  TRY(auto root, opened->attributes(kRootInode));
  if (!S_ISDIR(root.mode)) return Error(Errc::bad_item, "the root is not a directory");
  if (!options.read_only) {
    TRY(opened->pass_used_numbers());
  }
  return opened;
}

Result<void> Filesystem::pass_used_numbers() {
  FsCounters counters;
  // The last item of the tree has the highest number. Items of numbers that no inode can have
  // (fs/format.h) are never in the way.
  auto highest = context_.transactions.read([&](Access& access) -> Result<uint64_t> {
    counters = access.counters();
    TRY(const auto item, context_.fs_tree().at_or_before(access, {kInodeNumbersEnd, 0, 0}));
    return item ? std::min(item->key.object, kInodeNumbersEnd - 1) : 0;
  });
  if (!highest) {
    // Only that part of the tree is damaged. New inodes find out whether their number is free.
    log_warning("the highest inode number is not known: {}", highest.error().message());
    highest = uint64_t{0};
  }
  const uint64_t next = std::max({counters.next_inode, highest.value() + 1, kFirstFreeInode.value});
  if (next == counters.next_inode) return ok();
  log_warning("the next inode number is {}, but {} is in use: the filesystem is damaged",
              counters.next_inode, next - 1);
  return context_.transactions.write(Budget{1}, [&](Txn& txn) -> Result<void> {
    txn.counters_for_change().next_inode = next;
    return ok();
  });
}

void Filesystem::start() {
  if (!context_.options.read_only) reclaimer_.start();
}

void Filesystem::stop() {
  reclaimer_.stop();
}

void Filesystem::abandon() {
  reclaimer_.abandon();
}

Policy Filesystem::policy() {
  return context_.policy;
}

void Filesystem::set_policy(const Policy& policy) {
  context_.policy = policy;
}

// ---- Names.

Result<Attributes> Filesystem::lookup(InodeNumber parent, std::string_view name) {
  return lookup_name(context_, parent, name);
}

Result<Attributes> Filesystem::make(InodeNumber parent, std::string_view name, uint32_t mode,
                                    uint64_t device, const Caller& caller) {
  return after_name(parent, with_space([&] {
                      return make_named_inode(context_, parent, name, mode, device, caller);
                    }));
}

Result<Attributes> Filesystem::make_unnamed(InodeNumber parent, uint32_t mode,
                                            const Caller& caller) {
  return with_space([&] { return make_unnamed_file(context_, parent, mode, caller); });
}

Result<Attributes> Filesystem::symlink(InodeNumber parent, std::string_view name,
                                       std::string_view target, const Caller& caller) {
  return after_name(
      parent, with_space([&] { return make_symlink(context_, parent, name, target, caller); }));
}

Result<Attributes> Filesystem::link(InodeNumber ino, InodeNumber parent, std::string_view name) {
  return after_name(parent, with_space([&] { return link_inode(context_, ino, parent, name); }));
}

Result<void> Filesystem::unlink(InodeNumber parent, std::string_view name) {
  return after_name(parent, unlink_name(context_, parent, name));
}

Result<void> Filesystem::remove_directory(InodeNumber parent, std::string_view name) {
  return after_name(parent, remove_empty_directory(context_, parent, name));
}

Result<void> Filesystem::rename(InodeNumber parent, std::string_view name, InodeNumber new_parent,
                                std::string_view new_name, RenameMode mode, const Caller& caller) {
  const auto renamed = with_space(
      [&] { return rename_entry(context_, parent, name, new_parent, new_name, mode, caller); });
  return after_name(syncs_names_of(parent) ? parent : new_parent, renamed);
}

Result<std::string> Filesystem::read_symlink(InodeNumber ino) {
  return read_symlink_target(context_, ino);
}

Result<void> Filesystem::read_directory(InodeNumber directory, uint64_t cookie, bool references,
                                        const DirVisitor& visit, bool is_access) {
  return read_entries(context_, directory, cookie, references, visit, is_access);
}

void Filesystem::forget(InodeNumber ino, uint64_t count) {
  context_.inodes.release(ino, count);
}

// ---- Attributes.

Result<Attributes> Filesystem::attributes(InodeNumber ino) {
  return load_attributes(context_, ino);
}

Result<Attributes> Filesystem::by_number(InodeNumber ino, uint64_t generation) {
  return take_by_number(context_, ino, generation);
}

Result<Attributes> Filesystem::set_attributes(InodeNumber ino, const SetAttributes& set) {
  return after_attributes(with_space([&] { return change_attributes(context_, ino, set); }));
}

Result<Attributes> Filesystem::set_flags(InodeNumber ino, uint32_t flags, uint32_t which) {
  return after_attributes(change_flags(context_, ino, flags, which));
}

Result<void> Filesystem::check_open(InodeNumber ino, bool writes, bool appends) {
  return may_open(context_, ino, writes, appends);
}

Result<std::vector<std::byte>> Filesystem::get_xattr(InodeNumber ino, std::string_view name) {
  return fs::get_xattr(context_, ino, name);
}

Result<void> Filesystem::set_xattr(InodeNumber ino, std::string_view name, ConstBytes value,
                                   XattrMode mode, bool kill_sgid) {
  return after_attributes(
      with_space([&] { return fs::set_xattr(context_, ino, name, value, mode, kill_sgid); }));
}

Result<void> Filesystem::remove_xattr(InodeNumber ino, std::string_view name) {
  return after_attributes(fs::remove_xattr(context_, ino, name));
}

Result<std::vector<std::string>> Filesystem::list_xattrs(InodeNumber ino) {
  return fs::list_xattrs(context_, ino);
}

// ---- Content.

Result<size_t> Filesystem::read(InodeNumber ino, uint64_t offset, Bytes into, bool is_access) {
  return read_content(context_, ino, offset, into, is_access);
}

bool Filesystem::note_access(InodeNumber ino) {
  return context_.note_access(ino);
}

Result<uint64_t> Filesystem::write(InodeNumber ino, uint64_t offset, ConstBytes from,
                                   WriteFlags flags) {
  if (flags.kill_suidgid) {
    TRY(kill_suidgid(context_, ino, flags.outside_group));
  }
  return with_space([&] { return write_content(context_, ino, offset, from, flags); });
}

Result<void> Filesystem::allocate(InodeNumber ino, AllocateMode mode, uint64_t offset,
                                  uint64_t length, bool keep_size) {
  return with_space(
      [&] { return allocate_content(context_, ino, mode, offset, length, keep_size); });
}

Result<uint64_t> Filesystem::seek(InodeNumber ino, uint64_t offset, SeekWhence whence) {
  return seek_content(context_, ino, offset, whence);
}

Result<uint64_t> Filesystem::copy_range(InodeNumber from, uint64_t from_offset, InodeNumber to,
                                        uint64_t to_offset, uint64_t length) {
  return with_space(
      [&] { return copy_content(context_, from, from_offset, to, to_offset, length); });
}

Result<void> Filesystem::sync(std::optional<InodeNumber> ino, OpenFile file) {
  TRY(context_.transactions.sync());
  auto& failures = context_.transactions.volume().write_failures();
  const auto lost = ino ? failures.news(ino->value, file) : failures.news_for_all();
  return lost ? Result<void>(*lost) : ok();
}

Result<void> Filesystem::commit() {
  TRY(context_.transactions.commit());
  const auto lost = context_.transactions.volume().write_failures().news_for_all();
  return lost ? Result<void>(*lost) : ok();
}

Result<Statistics> Filesystem::statistics() {
  const alloc::SpaceUsage usage = space().usage();
  Statistics statistics;
  statistics.total_bytes = usage.capacity_bytes;
  statistics.available_bytes = std::min(usage.available_bytes, usage.capacity_bytes);
  statistics.free_bytes = statistics.available_bytes;
  const uint64_t for_metadata = usage.unallocated_bytes / 2 + usage.metadata_chunk_bytes -
                                std::min(usage.metadata_chunk_bytes, usage.metadata_used_bytes);
  statistics.free_inode_count = for_metadata / kBytesPerInode;
  TRY(const uint64_t used, context_.transactions.read([](Access& access) -> Result<uint64_t> {
    return access.counters().inode_count;
  }));
  statistics.inode_count = used + statistics.free_inode_count;
  return statistics;
}

Result<void> Filesystem::reclaim() {
  if (reclaimer_.busy()) reclaimer_.wait_idle();
  if (space().pinned_bytes() == 0) return ok();
  TRY(context_.transactions.commit_and_free());
  // The commit can leave chunks empty, which only a later commit gives back.
  for (int i = 0; i < 2 && space().pinned_bytes() >= kWorthACommit; ++i) {
    TRY(context_.transactions.commit_and_free(true));
  }
  return ok();
}

Result<uint64_t> Filesystem::preallocated_bytes(InodeNumber ino, uint64_t offset, uint64_t length) {
  const uint64_t end = offset + length;
  uint64_t bytes = 0;
  TRY(visit_extents(context_, ino, offset, end, [&](const Extent& extent) {
    if (!extent.unwritten) return;
    bytes += std::min(end, extent.file_end()) - std::max(offset, extent.file_offset);
  }));
  return bytes;
}

uint64_t Filesystem::writable_bytes() {
  const alloc::SpaceUsage usage = space().usage();
  const uint64_t pinned = std::min(usage.available_bytes, usage.pinned_data_bytes);
  return std::min(usage.available_bytes - pinned, usage.recordable_bytes);
}

uint64_t Filesystem::surely_writable_bytes() {
  return space().surely_free_bytes();
}

Runtime& Filesystem::runtime() {
  return context_.runtime;
}

std::string Filesystem::path_of(InodeNumber ino) {
  return find_path(context_, ino);
}

}  // namespace moltfs::fs
