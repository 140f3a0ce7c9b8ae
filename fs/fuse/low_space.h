// SPDX-License-Identifier: MIT
// Low space: makes write(2) fail with ENOSPC although the kernel only puts the bytes into its
// writeback cache and asks nobody.
//
// Space is *low* while less is free than the kernel may hold in its cache, plus one write for each
// file that is open for writing: that write may have begun, and its bytes may still come. Otherwise
// nothing here costs much. While it is low, each buffered write asks for space first. The
// kernel does that by itself for a file whose mode it does not know: it sends GETATTR with the
// handle of the file before the write, and returns the error of that. So
//   - when space becomes low, and at each open for writing while it is low, the kernel is told that
//     its cached attributes are no longer true;
//   - no reply may make it know the attributes of such a file again. The kernel is told the same
//     just before a reply, so that it takes the reply for outdated; where it does not check that (a
//     new file, SETATTR) the attributes in the reply are valid for 0 seconds.
// Then SEEK_END and reads past the end of the file send the same GETATTR. Only handles for writing
// count.
//
// A write that asks *reserves* space (space_reservations.h: G1 to G4), or is refused. It does not
// say how much it will write: a longer one than a reservation may fail later, at fsync or close. A
// reservation ends when its bytes come or the file is closed. What the kernel held when space
// became low is unknown; it counts as the most that it may be. A request that stores bytes which
// nobody reserved gets only space that nobody else has reserved.
//
// When nothing more can be reserved, space is *reclaimed* on the deferred thread. The kernel writes
// back the files with reservations (all files that are open for writing if something is unknown),
// which ends these reservations. Then what waits for a commit, for the removal of orphans, or for
// the kernel to forget files that were just removed becomes free. Operations that take space of
// their own (fallocate, copy_file_range) run there, too, so that they take nothing that is
// reserved. Space counts as low for them if it would be low after them.
//
// When there is plenty again, nothing is asked; the reservations that are left end with the next
// reclaim. A write to a file with preallocated space is never refused, because it may go there. If
// it does not, it has nothing reserved; fsync or close reports it if there is no space.
//
// Concurrency: any thread. Lock order: mutex_ before those of WriteOpens and of the filesystem.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>

#include "fs/filesystem.h"
#include "fs/fuse/kernel_cache.h"
#include "fs/fuse/space_reservations.h"
#include "fs/fuse/write_opens.h"

namespace moltfs::fs::fuse {

class LowSpace {
 public:
  LowSpace(Filesystem& filesystem, WriteOpens& write_opens, KernelCache& kernel)
      : filesystem_(filesystem), write_opens_(write_opens), kernel_(kernel) {}

  /// The most that the kernel may hold in its writeback cache. Until it is set, space is never low.
  void set_limit(uint64_t bytes);

  /// False: the reply that follows must say that the attributes are valid for 0 seconds.
  bool attributes_may_be_cached(uint64_t ino);
  /// The kernel now knows the attributes, whatever the reply said: after CREATE, TMPFILE, LINK and
  /// SETATTR.
  void attributes_are_cached(uint64_t ino);
  /// The file was opened for writing, and `write_opens` knows.
  void opened(uint64_t ino);

  /// A buffered write by `thread` asks for space. True: it may go on. False: it may after
  /// reclaim_and_reserve().
  bool reserve(uint64_t ino, pid_t thread);
  /// The same, but waits for the kernel's write-back. False: there is no space. Only on the
  /// deferred thread.
  bool reclaim_and_reserve(uint64_t ino, pid_t thread);
  using Operation = std::function<void()>;
  /// Runs `operation` of `thread`, which takes up to `bytes` that it has not reserved. False: it
  /// has not run, take_after_write_back() must run it.
  bool take_if_plenty(pid_t thread, uint64_t bytes, const Operation& operation);
  /// Waits until nothing is reserved, then runs `operation`. Only on the deferred thread.
  void take_after_write_back(uint64_t bytes, const Operation& operation);

  /// A request that stores bytes of a file.
  struct Store {
    uint64_t ino = 0, offset = 0, bytes = 0;
    bool cached = false;  ///< they come from the writeback cache
    pid_t thread = 0;     ///< which writes them, if they do not
  };
  /// What a request takes while it is carried out.
  struct Taken {
    uint64_t plenty = 0, reserved = 0;  ///< bytes; at most one of the two
  };
  /// The request is about to be carried out; end_store() follows. Errors: no_space, if it would
  /// need space that others have reserved; those of reading metadata.
  Result<Taken> begin_store(const Store& store);
  void end_store(const Taken& taken);
  /// A handle was released, and no other one for writing is left.
  void closed(uint64_t ino);
  /// A name was removed. Perhaps a file goes with it, as soon as the kernel has forgotten it.
  void removed();

 private:
  Nanoseconds now() const { return filesystem_.runtime().now(); }
  uint64_t limit() const { return limit_ + write_opens_.count() * SpaceReservations::kBytes; }
  uint64_t free_bytes();
  void update();
  void become_low();
  bool try_to_reserve(uint64_t ino, pid_t thread);
  bool try_until_reclaimed(uint64_t ino, pid_t thread);
  bool may_be_preallocated(uint64_t ino);
  std::optional<uint64_t> try_to_store(const Store& store, uint64_t bytes);
  bool run_if_plenty(uint64_t bytes, const Operation& operation);
  bool write_back_reserved();
  void set_blocked(bool blocked);

  Filesystem& filesystem_;
  WriteOpens& write_opens_;
  KernelCache& kernel_;
  std::atomic<uint64_t> limit_{0};
  std::atomic<bool> low_{false};
  /// What requests that found plenty are taking; some of it may no longer be free.
  std::atomic<uint64_t> taking_{0};
  /// take_after_write_back() is at work: space stays low until it is done.
  std::atomic<bool> keep_low_{false};
  /// Until then the kernel may still forget files that were removed.
  std::atomic<Nanoseconds::rep> forgets_until_{0};
  std::mutex mutex_;
  SpaceReservations reservations_;  // guarded by mutex_
};

}  // namespace moltfs::fs::fuse
