// SPDX-License-Identifier: MIT
// The front of the filesystem: hands each operation to the part that does it.
#include "fs/filesystem.h"

#include <sys/stat.h>

#include <algorithm>

#include "fs/attributes.h"
#include "fs/content/block_writer.h"
#include "fs/content/content.h"
#include "fs/content/extents.h"
#include "fs/inode/inode_flags.h"
#include "fs/inode/orphan_mark.h"
#include "fs/inode/times.h"
#include "fs/inode/xattrs.h"
#include "fs/names/directory.h"
#include "fs/names/inode_path.h"
#include "fs/reclaimer.h"

namespace moltfs::fs {
namespace {

constexpr size_t kRecordsPerSection = 4096;
// What statistics() takes an inode with its entry to need in metadata.
constexpr uint64_t kBytesPerInode = 512;

/// What the extent tree holds, for Space.
class RecordedExtents final : public alloc::AllocatedSource {
 public:
  explicit RecordedExtents(Transactions& transactions) : transactions_(transactions) {}

  Result<std::vector<LogicalRange>> allocated_in(LogicalRange chunk) override {
    std::vector<LogicalRange> ranges;
    for (LogicalOffset from = chunk.start; from < chunk.end();) {
      TRY(auto some, ranges_from(from, chunk.end()));
      for (const LogicalRange& range : some) {
        if (!ranges.empty() && ranges.back().end() == range.start) {
          ranges.back().length += range.length;
        } else {
          ranges.push_back(range);
        }
      }
      if (some.size() < kRecordsPerSection) break;
      from = some.back().end();
    }
    return ranges;
  }

 private:
  Result<std::vector<LogicalRange>> ranges_from(LogicalOffset from, LogicalOffset end) {
    // A record that begins before `from` counts: its parts may have been two at the last look.
    return transactions_.read([&](Access& access) -> Result<std::vector<LogicalRange>> {
      std::vector<LogicalRange> ranges;
      const auto add = [&](const ExtentRecord& record) {
        ranges.push_back({record.start, record.length});
        return ranges.size() < kRecordsPerSection;
      };
      TRY(visit_records(access, transactions_.extent_tree(), {from, end - from}, add));
      return ranges;
    });
  }

  Transactions& transactions_;
};

/// Bytes that a commit would give back. Fewer are but what each commit replaces of the trees.
constexpr uint64_t kWorthACommit = 1 << 20;

}  // namespace

class Filesystem::Impl {
 public:
  Impl(Runtime& runtime, Transactions& transactions, const Options& options)
      : context(runtime, transactions, options), reclaimer(context), recorded(transactions) {
    context.reclaim = [this](InodeNumber ino) { reclaimer.add(ino); };
    space().set_allocated_source(&recorded);
  }
  ~Impl() { space().set_allocated_source(nullptr); }

  alloc::Space& space() { return context.transactions.volume().space(); }

  /// Runs `operation`; once more if it found no space while orphans were about to give some back.
  template <class F>
  auto with_space(const F& operation) -> std::invoke_result_t<F> {
    auto result = operation();
    if (result || result.error().code != Errc::no_space || !reclaimer.busy()) return result;
    TRY(reclaim());
    return operation();
  }
  Result<void> reclaim() {
    if (reclaimer.busy()) reclaimer.wait_idle();
    if (space().pinned_bytes() == 0) return ok();
    TRY(context.transactions.commit());
    // What it has freed can leave chunks empty, which only a later commit gives back.
    for (int i = 0; i < 2 && space().pinned_bytes() >= kWorthACommit; ++i) {
      TRY(context.transactions.commit(true));
    }
    return ok();
  }

  bool syncs_names_of(InodeNumber directory) {
    const Policy policy = context.policy;
    if (policy.sync_names || policy.sync_all) return true;
    if (!context.met_synced_directory) return false;
    const auto attributes = load_attributes(context, directory);
    return attributes && (attributes.value().flags & kInodeDirSync) != 0;
  }
  /// A name in `directory` has changed: durable now, if the policy or the directory says so.
  Result<void> after_name(InodeNumber directory) {
    return syncs_names_of(directory) ? context.transactions.sync() : ok();
  }
  Result<void> after_name(InodeNumber directory, Result<void> changed) {
    return changed ? after_name(directory) : changed;
  }
  /// The same for one that took a reference to an inode.
  Result<Attributes> after_name(InodeNumber directory, Result<Attributes> made) {
    if (!made) return made;
    const auto durable = after_name(directory);
    if (durable) return made;
    forget_inode(context, made.value().ino, 1);
    return durable.error();
  }
  /// Attributes have changed.
  template <class T>
  Result<T> after_attributes(Result<T> changed) {
    const Policy policy = context.policy;
    if (changed && policy.sync_all) {
      TRY(context.transactions.sync());
    }
    return changed;
  }

  Result<void> lost_content(std::optional<InodeNumber> ino) {
    const auto owner = ino ? std::optional(ino->value) : std::nullopt;
    const auto failure = context.transactions.volume().take_write_failure(owner);
    if (failure) return *failure;
    return ok();
  }

  FilesystemContext context;
  Reclaimer reclaimer;
  RecordedExtents recorded;
};

Filesystem::Filesystem(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Filesystem::~Filesystem() = default;

Result<std::unique_ptr<Filesystem>> Filesystem::create(Runtime& runtime, Transactions& transactions,
                                                       const Caller& owner) {
  std::unique_ptr<Filesystem> made(
      new Filesystem(std::make_unique<Impl>(runtime, transactions, Options{})));
  FilesystemContext& context = made->impl_->context;
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
  std::unique_ptr<Filesystem> opened(
      new Filesystem(std::make_unique<Impl>(runtime, transactions, options)));
  TRY(auto root, opened->attributes(kRootInode));
  if (!S_ISDIR(root.mode)) return Error(Errc::bad_item, "the root is no directory");
  return opened;
}

void Filesystem::start() {
  if (!impl_->context.options.read_only) impl_->reclaimer.start();
}

void Filesystem::stop() {
  impl_->reclaimer.stop();
}

void Filesystem::abandon() {
  impl_->reclaimer.abandon();
}

Policy Filesystem::policy() {
  return impl_->context.policy;
}

void Filesystem::set_policy(const Policy& policy) {
  impl_->context.policy = policy;
}

// ---- Names.

Result<Attributes> Filesystem::lookup(InodeNumber parent, std::string_view name) {
  return lookup_name(impl_->context, parent, name);
}

Result<Attributes> Filesystem::make(InodeNumber parent, std::string_view name, uint32_t mode,
                                    uint64_t device, const Caller& caller) {
  return impl_->after_name(parent, impl_->with_space([&] {
    return make_inode(impl_->context, parent, name, mode, device, caller);
  }));
}

Result<Attributes> Filesystem::make_unnamed(InodeNumber parent, uint32_t mode,
                                            const Caller& caller) {
  return impl_->with_space([&] { return make_unnamed_file(impl_->context, parent, mode, caller); });
}

Result<Attributes> Filesystem::symlink(InodeNumber parent, std::string_view name,
                                       std::string_view target, const Caller& caller) {
  return impl_->after_name(parent, impl_->with_space([&] {
    return make_symlink(impl_->context, parent, name, target, caller);
  }));
}

Result<Attributes> Filesystem::link(InodeNumber ino, InodeNumber parent, std::string_view name) {
  return impl_->after_name(
      parent, impl_->with_space([&] { return link_inode(impl_->context, ino, parent, name); }));
}

Result<void> Filesystem::unlink(InodeNumber parent, std::string_view name) {
  return impl_->after_name(parent, unlink_name(impl_->context, parent, name));
}

Result<void> Filesystem::remove_directory(InodeNumber parent, std::string_view name) {
  return impl_->after_name(parent, remove_empty_directory(impl_->context, parent, name));
}

Result<void> Filesystem::rename(InodeNumber parent, std::string_view name, InodeNumber new_parent,
                                std::string_view new_name, RenameMode mode, const Caller& caller) {
  const auto renamed = impl_->with_space([&] {
    return rename_entry(impl_->context, parent, name, new_parent, new_name, mode, caller);
  });
  return impl_->after_name(impl_->syncs_names_of(parent) ? parent : new_parent, renamed);
}

Result<std::string> Filesystem::read_symlink(InodeNumber ino) {
  return read_symlink_target(impl_->context, ino);
}

Result<void> Filesystem::read_directory(InodeNumber directory, uint64_t cookie, bool references,
                                        const DirVisitor& visit, bool is_access) {
  return read_entries(impl_->context, directory, cookie, references, visit, is_access);
}

void Filesystem::forget(InodeNumber ino, uint64_t count) {
  forget_inode(impl_->context, ino, count);
}

// ---- Attributes.

Result<Attributes> Filesystem::attributes(InodeNumber ino) {
  return load_attributes(impl_->context, ino);
}

Result<Attributes> Filesystem::by_number(InodeNumber ino, uint64_t generation) {
  return take_by_number(impl_->context, ino, generation);
}

Result<Attributes> Filesystem::set_attributes(InodeNumber ino, const SetAttributes& set) {
  return impl_->after_attributes(
      impl_->with_space([&] { return change_attributes(impl_->context, ino, set); }));
}

Result<Attributes> Filesystem::set_flags(InodeNumber ino, uint32_t flags, uint32_t which) {
  return impl_->after_attributes(change_flags(impl_->context, ino, flags, which));
}

Result<void> Filesystem::check_open(InodeNumber ino, bool writes, bool appends) {
  return may_open(impl_->context, ino, writes, appends);
}

Result<std::vector<std::byte>> Filesystem::get_xattr(InodeNumber ino, std::string_view name) {
  return fs::get_xattr(impl_->context, ino, name);
}

Result<void> Filesystem::set_xattr(InodeNumber ino, std::string_view name, ConstBytes value,
                                   XattrMode mode, bool kill_sgid) {
  return impl_->after_attributes(impl_->with_space(
      [&] { return fs::set_xattr(impl_->context, ino, name, value, mode, kill_sgid); }));
}

Result<void> Filesystem::remove_xattr(InodeNumber ino, std::string_view name) {
  return impl_->after_attributes(fs::remove_xattr(impl_->context, ino, name));
}

Result<std::vector<std::string>> Filesystem::list_xattrs(InodeNumber ino) {
  return fs::list_xattrs(impl_->context, ino);
}

// ---- Content.

Result<size_t> Filesystem::read(InodeNumber ino, uint64_t offset, Bytes into, bool is_access) {
  return read_content(impl_->context, ino, offset, into, is_access);
}

bool Filesystem::note_access(InodeNumber ino) {
  return fs::note_access(impl_->context, ino);
}

Result<uint64_t> Filesystem::write(InodeNumber ino, uint64_t offset, ConstBytes from,
                                   WriteFlags flags) {
  if (flags.kill_suidgid) {
    TRY(kill_privileges(impl_->context, ino, flags.outside_group));
  }
  return impl_->with_space([&] { return write_content(impl_->context, ino, offset, from, flags); });
}

Result<void> Filesystem::allocate(InodeNumber ino, AllocateMode mode, uint64_t offset,
                                  uint64_t length, bool keep_size) {
  return impl_->with_space(
      [&] { return allocate_content(impl_->context, ino, mode, offset, length, keep_size); });
}

Result<uint64_t> Filesystem::seek(InodeNumber ino, uint64_t offset, SeekWhence whence) {
  return seek_content(impl_->context, ino, offset, whence);
}

Result<uint64_t> Filesystem::copy_range(InodeNumber from, uint64_t from_offset, InodeNumber to,
                                        uint64_t to_offset, uint64_t length) {
  return impl_->with_space(
      [&] { return copy_content(impl_->context, from, from_offset, to, to_offset, length); });
}

Result<void> Filesystem::sync(std::optional<InodeNumber> ino) {
  TRY(impl_->context.transactions.sync());
  return impl_->lost_content(ino);
}

Result<void> Filesystem::commit() {
  TRY(impl_->context.transactions.commit());
  return impl_->lost_content(std::nullopt);
}

Result<Statistics> Filesystem::statistics() {
  const alloc::SpaceUsage usage = impl_->space().usage();
  Statistics statistics;
  statistics.total_bytes = usage.device_bytes;
  statistics.available_bytes = std::min(usage.available_bytes, usage.device_bytes);
  statistics.free_bytes = statistics.available_bytes;
  const uint64_t for_metadata = usage.unallocated_bytes / 2 + usage.metadata_chunk_bytes -
                                std::min(usage.metadata_chunk_bytes, usage.metadata_used_bytes);
  statistics.free_inode_count = for_metadata / kBytesPerInode;
  TRY(const uint64_t used, impl_->context.transactions.read([](Access& access) -> Result<uint64_t> {
    return access.counters().inode_count;
  }));
  statistics.inode_count = used + statistics.free_inode_count;
  return statistics;
}

Result<void> Filesystem::reclaim() {
  return impl_->reclaim();
}

Result<bool> Filesystem::has_preallocated(InodeNumber ino) {
  bool found = false;
  TRY(visit_extents(impl_->context, ino, 0, kMaxFileBytes,
                    [&](const Extent& extent) { found |= extent.unwritten; }));
  return found;
}

uint64_t Filesystem::writable_bytes() {
  const alloc::SpaceUsage usage = impl_->context.transactions.volume().space().usage();
  const uint64_t pinned = std::min(usage.available_bytes, usage.pinned_data_bytes);
  return std::min(usage.available_bytes - pinned, usage.recordable_bytes);
}

Runtime& Filesystem::runtime() {
  return impl_->context.runtime;
}

std::string Filesystem::path_of(InodeNumber ino) {
  return find_path(impl_->context, ino);
}

}  // namespace moltfs::fs
