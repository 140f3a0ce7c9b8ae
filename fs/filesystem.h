// SPDX-License-Identifier: MIT
// The interface of the filesystem: inodes, names, content, attributes, without FUSE. The FUSE front
// end, the simulator and the tests call it. It uses transactions (fs/tree) and the volume (alloc).
// fs/README.md tells the life of a write, a truncate and an unlink.
//
// Each change of names or attributes is one critical section, hence atomic and ordered: a crash
// leaves the state of a commit (and of the fsync log), never half an operation. Content is first
// written to fresh space with no lock held, then recorded in one critical section.
//
// Lookup references, as the kernel counts them, keep an inode alive. Operations marked (entry) take
// one reference to the inode they return; forget() gives references back. An inode without names
// (links == 0) is an orphan: it has an orphan mark in the trees, and a background task removes it
// when its last reference is gone, or at the next mount.
//
// The kernel checks permissions (default_permissions). Filesystem checks what the kernel leaves to
// it: names, types, emptiness, limits, clearing of set-id bits, ACL inheritance.
//
// Writing: range lock -> allocate -> checksums -> map guard -> devices, or memory for small writes
// (alloc/volume/write_buffer.h) -> one critical section that replaces the records -> release guard
// and range lock. Space is allocated before anything changes: no_space leaves the file unchanged.
// Reading: look up extents and checksums under the lock, read without it, verify. If a block does
// not match its checksum and its record has changed meanwhile, look up again. Otherwise try the
// other copies and repair the bad one (freeze its place and check the record again first).
//
// Concurrency: any task may call anything. Range locks (fs/inode/range_lock.h) order writes,
// truncates and hole punches of one inode; reads take them shared, so a read never sees half
// a write.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/space/space.h"
#include "fs/content/recorded_extents.h"
#include "fs/format.h"
#include "fs/inode/context.h"
#include "fs/reclaimer.h"
#include "fs/tree/transaction.h"
#include "fs/types.h"

namespace moltfs::fs {

class Filesystem {
 public:
  using Options = FilesystemOptions;

  /// For mkfs: makes the root directory (owner `caller`, mode 0755).
  static Result<std::unique_ptr<Filesystem>> create(Runtime& runtime, Transactions& transactions,
                                                    const Caller& owner);
  /// Registers as the volume's AllocatedSource. Orphans are not removed before start(). Errors:
  /// not_found, bad_item, bad_node, io_error (of the root directory).
  static Result<std::unique_ptr<Filesystem>> open(Runtime& runtime, Transactions& transactions,
                                                  const Options& options);
  ~Filesystem();
  /// Starts the background task that removes orphans, beginning with those found in the trees.
  void start();
  /// Waits until the orphans without references are removed, then stops the task. To be called
  /// before the last commit.
  void stop();
  /// Stops the task; the next mount removes the orphans.
  void abandon();
  Policy policy();
  void set_policy(const Policy& policy);

  // ---- Names. A name has 1..255 bytes without '/' and NUL and is not "." or ".."; else
  //      invalid_argument, name_too_long. A removed directory takes no new entries: not_found.
  Result<Attributes> lookup(InodeNumber parent, std::string_view name);  ///< (entry)
  /// (entry) Makes a file, directory, device node, fifo or socket, by the type in `mode`. Applies
  /// the umask or the parent's default ACL, and the parent's set-gid bit.
  Result<Attributes> make(InodeNumber parent, std::string_view name, uint32_t mode, uint64_t device,
                          const Caller& caller);
  /// (entry) A regular file without a name (O_TMPFILE); link() can give it one.
  Result<Attributes> make_unnamed(InodeNumber parent, uint32_t mode, const Caller& caller);
  Result<Attributes> symlink(InodeNumber parent, std::string_view name, std::string_view target,
                             const Caller& caller);                                     ///< (entry)
  Result<Attributes> link(InodeNumber ino, InodeNumber parent, std::string_view name);  ///< (entry)
  Result<void> unlink(InodeNumber parent, std::string_view name);
  Result<void> remove_directory(InodeNumber parent, std::string_view name);
  Result<void> rename(InodeNumber parent, std::string_view name, InodeNumber new_parent,
                      std::string_view new_name, RenameMode mode, const Caller& caller);
  Result<std::string> read_symlink(InodeNumber ino);
  /// Visits the entries after `cookie` (0: from the start) in a stable order, until `visit` returns
  /// false. "." and ".." come first. An entry that exists during the whole listing is visited
  /// exactly once. No lock is held while `visit` runs. With `references`: (entry) for each entry
  /// except "." and "..", and `visit` gets the attributes; an entry for which it returns false
  /// takes no reference. `is_access`: moves atime where that is due.
  Result<void> read_directory(InodeNumber directory, uint64_t cookie, bool references,
                              const DirVisitor& visit, bool is_access = true);
  void forget(InodeNumber ino, uint64_t count);

  // ---- Attributes.
  Result<Attributes> attributes(InodeNumber ino);
  /// (entry) By number, for file handles. Error: stale_handle if there is no such inode, or if it
  /// has another generation (0: any generation matches).
  Result<Attributes> by_number(InodeNumber ino, uint64_t generation);
  Result<Attributes> set_attributes(InodeNumber ino, const SetAttributes& set);
  /// Sets the flags in `which` (a subset of kInodeSettable) to their values in `flags`. The kernel
  /// checks permissions; fs/inode/inode_flags.h enforces the flags.
  Result<Attributes> set_flags(InodeNumber ino, uint32_t flags, uint32_t which = kInodeSettable);
  /// Error: not_permitted, if the inode's flags forbid this open. The other operations check the
  /// flags themselves, except write(): an open file stays writable.
  Result<void> check_open(InodeNumber ino, bool writes, bool appends);
  Result<std::vector<std::byte>> get_xattr(InodeNumber ino, std::string_view name);
  /// `kill_sgid`: setting an access ACL clears the set-gid bit (the caller is not in the group).
  Result<void> set_xattr(InodeNumber ino, std::string_view name, ConstBytes value, XattrMode mode,
                         bool kill_sgid = false);
  Result<void> remove_xattr(InodeNumber ino, std::string_view name);
  Result<std::vector<std::string>> list_xattrs(InodeNumber ino);

  // ---- Content.
  /// Reads up to into.size() bytes; returns how many (fewer only at the end of the file). If
  /// `into` is aligned to 4096, whole blocks are read from the device straight into it.
  /// `is_access`: moves atime where that is due; false for reads that the kernel makes for itself.
  /// Errors: not_found, is_a_directory, invalid_argument (not a regular file), io_error (no good
  /// copy), bad_item, bad_node.
  Result<size_t> read(InodeNumber ino, uint64_t offset, Bytes into, bool is_access = true);
  /// For reads that the kernel answers from its cache: moves atime where that is due; true if
  /// it did.
  bool note_access(InodeNumber ino);
  /// Writes all of `from` or nothing; returns the offset written at. If `from` is aligned to 4096,
  /// it is written to the device without a copy. `append`: at the end of the file, `offset` is
  /// ignored. `kill_suidgid`: clears set-id bits and security.capability; with `outside_group` (the
  /// writer is not in the file's group) the set-gid bit also if the group may not execute. Errors:
  /// as of read(); no_space, file_too_large, read_only.
  using WriteFlags = fs::WriteFlags;
  Result<uint64_t> write(InodeNumber ino, uint64_t offset, ConstBytes from, WriteFlags flags);
  Result<void> allocate(InodeNumber ino, AllocateMode mode, uint64_t offset, uint64_t length,
                        bool keep_size);
  /// no_such_offset at or past the end; the end of the file is a hole.
  Result<uint64_t> seek(InodeNumber ino, uint64_t offset, SeekWhence whence);
  /// Copies up to `length` bytes, holes as holes; returns how many.
  Result<uint64_t> copy_range(InodeNumber from, uint64_t from_offset, InodeNumber to,
                              uint64_t to_offset, uint64_t length);
  /// Makes everything done so far durable, through the fsync log or by a commit. Concurrent callers
  /// share one. Error: io_error, once for each `file`, if content of `ino` was lost since it was
  /// written (alloc/volume/write_failures.h); and those of Transactions::sync().
  using OpenFile = alloc::WriteFailures::Moment;
  Result<void> sync(std::optional<InodeNumber> ino = std::nullopt, OpenFile file = 0);
  /// The same for all files, by a commit. Error: io_error, once, if content of any file was lost.
  Result<void> commit();

  Result<Statistics> statistics();
  /// Frees the space that waits for the removal of orphans or for a commit. Errors: as of commit().
  Result<void> reclaim();
  /// Preallocated bytes within the range that are not written yet.
  Result<uint64_t> preallocated_bytes(InodeNumber ino, uint64_t offset, uint64_t length);
  /// Bytes that can be written now, without a commit.
  uint64_t writable_bytes();
  /// A lower bound of that. Costs one load, and is less by a few percent at most.
  uint64_t surely_writable_bytes();
  Runtime& runtime();

  /// A path from the root, for messages ("<inode 12>" if there is none; one of several hard links).
  /// Slow: searches directories.
  std::string path_of(InodeNumber ino);

 private:
  Filesystem(Runtime& runtime, Transactions& transactions, const Options& options);

  alloc::Space& space();
  /// Runs `operation`. If it finds no space while orphans are being removed: waits for that, frees
  /// their space, and runs it once more.
  template <class F>
  auto with_space(const F& operation) -> std::invoke_result_t<F>;
  /// At mount: no number is given to a new inode that a damaged tree already has items of.
  Result<void> pass_used_numbers();
  bool syncs_names_of(InodeNumber directory);
  /// To be called after names in `directory` have changed: syncs, if the policy or the directory
  /// demands it. The second and third form pass on the result of the change. If the sync fails, the
  /// third one gives the reference of `made` back.
  Result<void> after_name(InodeNumber directory);
  Result<void> after_name(InodeNumber directory, Result<void> changed);
  Result<Attributes> after_name(InodeNumber directory, Result<Attributes> made);
  /// The same after attributes have changed.
  template <class T>
  Result<T> after_attributes(Result<T> changed);

  FilesystemContext context_;
  Reclaimer reclaimer_;
  RecordedExtents recorded_extents_;
};

}  // namespace moltfs::fs
