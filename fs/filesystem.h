// SPDX-License-Identifier: MIT
// The filesystem below the kernel's dialect: inodes, names, content, attributes. The FUSE front end,
// the simulator and the tests call this; it stands on transactions (fs/tree) and the volume (alloc).
//
// Each change of names or attributes is one critical section, hence atomic and ordered: a crash
// leaves the state of a commit, never half an operation. Content is written to fresh space first
// (no lock held), then recorded in one critical section.
//
// What holds an inode in memory: *lookup references*, as the kernel counts them. Operations marked
// (entry) take one for the inode they return; forget() gives them back. An inode without names
// (links == 0) is an orphan: recorded in the trees, removed by a background task once its last
// reference is gone, or at the next mount.
//
// Permissions are the kernel's business (default_permissions); what is checked here is what the
// kernel leaves to the filesystem: names, types, emptiness, limits, sticky set-id clearing, ACL
// inheritance.
//
// Life of a write: range lock -> allocate -> checksums -> map guard -> devices, or for small ones
// memory (alloc/volume/write_buffer.h) -> one critical section that swaps the records -> guard and lock
// released.
//   ENOSPC: space is allocated before anything changes; no_space leaves the file as it was.
// Life of a read: look up extents and checksums under the lock, read without it, verify. A mismatch
//   with a record that has changed meanwhile is a race with a writer: look up again. Otherwise the
//   other copies are tried and the bad one is repaired (frozen and checked again first).
//
// Concurrency: any task may call anything. Range locks (fs/inode/range_lock.h) order writers, truncates and
// hole punchers of one inode; readers take them shared, so that a read never sees half a write.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/buffer.h"
#include "alloc/base/error.h"
#include "alloc/space/space.h"
#include "fs/format.h"
#include "fs/tree/transaction.h"
#include "fs/types.h"

namespace moltfs::fs {

class Filesystem {
 public:
  using Options = FilesystemOptions;

  /// For mkfs: makes the root directory (owner `caller`, mode 0755).
  static Result<std::unique_ptr<Filesystem>> create(Runtime& runtime, Transactions& transactions,
                                                    const Caller& owner);
  /// Registers as the volume's AllocatedSource. Orphans are not touched before start().
  static Result<std::unique_ptr<Filesystem>> open(Runtime& runtime, Transactions& transactions,
                                                  const Options& options);
  ~Filesystem();
  /// Starts the background task that removes orphans, and gives it those found in the trees.
  void start();
  /// Waits until the orphans without references are gone, stops the task. Before the last commit.
  void stop();
  /// As stop(), but leaves the orphans for the next mount.
  void abandon();
  Policy policy();
  void set_policy(const Policy& policy);

  // ---- Names. Names are 1..255 bytes without '/' and NUL, not "." or "..", else invalid_argument,
  //      name_too_long. Removed directories accept no new entries: not_found.
  Result<Attributes> lookup(InodeNumber parent, std::string_view name);  ///< (entry)
  /// (entry) Files, directories, device nodes, fifos, sockets by the type in `mode`. Applies umask
  /// or the parent's default ACL, set-gid directories.
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
  /// Entries after `cookie` (0: from the start) in stable order, until `visit` returns false.
  /// "." and ".." come first. An entry that exists all the time is seen exactly once. `visit` is
  /// called without any lock held. With `references`: (entry) for each entry but "." and "..", and
  /// the attributes are given; the visitor returning false did not take its entry.
  using DirVisitor = fs::DirVisitor;
  Result<void> read_directory(InodeNumber directory, uint64_t cookie, bool references,
                              const DirVisitor& visit, bool is_access = true);
  void forget(InodeNumber ino, uint64_t count);

  // ---- Attributes.
  Result<Attributes> attributes(InodeNumber ino);
  /// (entry) By number, for file handles: stale_handle if there is no such inode or it is another
  /// generation (0: any).
  Result<Attributes> by_number(InodeNumber ino, uint64_t generation);
  Result<Attributes> set_attributes(InodeNumber ino, const SetAttributes& set);
  /// Sets those of kInodeSettable that are in `which` to `flags`. Who may is the kernel's business;
  /// what they demand is done here (fs/inode/inode_flags.h).
  Result<Attributes> set_flags(InodeNumber ino, uint32_t flags, uint32_t which = kInodeSettable);
  /// Whether the inode's flags allow opening it so; not_permitted. Names, attributes and content
  /// are checked by the operations themselves, but for write(): who has it open may.
  Result<void> check_open(InodeNumber ino, bool writes, bool appends);
  Result<std::vector<std::byte>> get_xattr(InodeNumber ino, std::string_view name);
  /// `kill_sgid`: an access ACL takes the set-gid bit away (it is set by who is not in the group).
  Result<void> set_xattr(InodeNumber ino, std::string_view name, ConstBytes value, XattrMode mode,
                         bool kill_sgid = false);
  Result<void> remove_xattr(InodeNumber ino, std::string_view name);
  Result<std::vector<std::string>> list_xattrs(InodeNumber ino);

  // ---- Content.
  /// Reads up to into.size() bytes; returns how many (less only at the end of the file). `into`
  /// aligned to 4096 with whole blocks is filled straight from the device. `is_access`: somebody
  /// reads, which may move atime; false if it is for the kernel's own purposes.
  Result<size_t> read(InodeNumber ino, uint64_t offset, Bytes into, bool is_access = true);
  /// Somebody is about to read what the kernel may have in its cache: moves atime where it is due,
  /// and returns whether it did.
  bool note_access(InodeNumber ino);
  /// Writes all of `from` or nothing. `from` aligned to 4096 goes to the device as it is.
  /// `append`: at the end of the file, whatever `offset` says. Returns the offset written at.
  /// `kill_suidgid`: clear set-id bits and security.capability; with `outside_group` (the writer is
  /// not in the file's group) set-gid also where the group may not execute.
  using WriteFlags = fs::WriteFlags;
  Result<uint64_t> write(InodeNumber ino, uint64_t offset, ConstBytes from, WriteFlags flags);
  Result<void> allocate(InodeNumber ino, AllocateMode mode, uint64_t offset, uint64_t length,
                        bool keep_size);
  /// no_such_offset at or past the end; the end of the file is a hole.
  Result<uint64_t> seek(InodeNumber ino, uint64_t offset, SeekWhence whence);
  /// Copies up to `length` bytes, holes as holes; returns how many.
  Result<uint64_t> copy_range(InodeNumber from, uint64_t from_offset, InodeNumber to,
                              uint64_t to_offset, uint64_t length);
  /// Everything done so far is durable: by the fsync log, or by a commit. Concurrent callers share.
  /// io_error, once, if content of `ino` (nothing: of any file) that was written before is lost.
  Result<void> sync(std::optional<InodeNumber> ino = std::nullopt);
  /// The same, for all files, by a commit.
  Result<void> commit();

  Result<Statistics> statistics();
  /// Gives back what waits for the removal of orphans or for a commit. Errors as of commit().
  Result<void> reclaim();
  /// The file has space in which nothing is stored yet.
  Result<bool> has_preallocated(InodeNumber ino);
  /// Bytes that can be written now, without a commit.
  uint64_t writable_bytes();
  Runtime& runtime();

  /// A path from the root, for messages ("<inode 12>" if it has none; hard links: one of them).
  /// Slow: walks directories.
  std::string path_of(InodeNumber ino);

 private:
  class Impl;
  explicit Filesystem(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moltfs::fs
