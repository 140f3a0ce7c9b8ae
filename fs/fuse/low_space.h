// SPDX-License-Identifier: MIT
// The space guard: write(2) meets ENOSPC though the kernel only puts the bytes into its writeback
// cache and asks nobody.
//
// While there is plenty of space nothing happens. When there is less than the kernel may hold in
// its cache (`limit`) the guard is *tight*: whoever writes asks first. The kernel does so by itself
// if it does not know the mode of the file: before a buffered write it sends GETATTR with the
// file's handle, and returns its error. So:
//   - becoming tight, and at each opening for writing while tight, the kernel is told that what it
//     knows of the attributes is no longer true;
//   - an answer with attributes of such a file must not make it know them again. It is told the
//     same just before the answer, so that it takes the answer for outdated and forgets it; where
//     the kernel does not look at that (a new file, SETATTR) the attributes are valid for no time.
//     Then also SEEK_END and reads behind the end ask with the handle: only those of handles for
//     writing count.
//
// An asking write is *promised* kPromise bytes, or refused. It does not say how much it writes: a
// longer one that does not fit fails at fsync and close. Promises end as the data come, or when the
// file is closed (the kernel has written it back then). What the kernel held when the guard became
// tight is unknown, hence reckoned with as `limit`.
//   G1 the kernel holds at most unknown_ + the sum of all promises (but for stores through
//      mappings, about which msync and fsync tell).
// Where nothing can be promised the guard *settles*, on the deferred's thread: it has the kernel
// write back the files that have promises, all files if something is unknown, and then gives back
// what only waits for a commit, for the removal of orphans, or for the kernel to forget what was
// removed a moment ago. What fallocate and copy_file_range take is taken there, too: nothing
// promised is taken away.
//   G2 a promise outlives the write-back while its write(2) may still be *storing*: the program has
//      the kernel's answer, but its bytes are not in the cache yet. It is over when its thread asks
//      again, when the file is closed, and after kStoresWithin: who stalls for longer may lose it,
//      and learns it from fsync or close. The same holds for what is unknown: writes that began
//      before the guard became tight.
// When there is plenty again nothing is asked; promises that are left end with the next settling.
// A file with preallocated space is not refused: what is written may have its space.
//
// Concurrency: any thread. Lock order: mutex_ before those of WriteOpens and of the filesystem.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "fs/fuse/fuse_context.h"

namespace moltfs::fs::fuse {

class DeferredReplies;

class LowSpace {
 public:
  explicit LowSpace(FuseContext& context) : context_(context) {}

  /// What the kernel may hold in its writeback cache at most; until it is set the guard sleeps.
  void set_limit(uint64_t bytes);

  /// Seconds for which the kernel may believe the attributes with which it is now answered.
  double attribute_seconds(fuse_ino_t ino);
  /// The file has been opened for writing; WriteOpens knows.
  void opened(fuse_ino_t ino);
  /// The kernel has just believed attributes, whatever it was told: after CREATE, TMPFILE, LINK and
  /// SETATTR have been answered.
  void attributes_are_known(fuse_ino_t ino);
  /// A buffered write asks by GETATTR: takes over the request, or false: answer it as any other.
  bool ask(fuse_req_t req, fuse_ino_t ino);
  /// Runs `operation`, which takes space and answers a request: at once, or on the deferred's
  /// thread.
  void run_taking_space(fuse_req_t req, std::function<void()> operation);
  /// A FUSE_WRITE has been done. `cached`: it came from the writeback cache.
  void wrote(fuse_ino_t ino, uint64_t bytes, bool cached);
  /// A handle was released, and no other one for writing is left.
  void closed(fuse_ino_t ino);
  /// A name was removed, and with it perhaps a file, as soon as the kernel lets go of it.
  void removed();

 private:
  struct Promise {
    uint64_t fresh = 0;
    uint64_t settling = 0;  // given before the write-back that is under way
  };
  struct Storing {
    pid_t thread = 0;
    fuse_ino_t ino = 0;
    Nanoseconds until{0};
  };
  Nanoseconds now() const;
  uint64_t free_bytes() const;
  bool promise(fuse_ino_t ino, pid_t thread);
  void has_stored(pid_t thread, fuse_ino_t ino);
  bool may_be_preallocated(fuse_ino_t ino) const;
  void settle_and_answer(fuse_req_t req, fuse_ino_t ino);
  bool settle(fuse_ino_t ino, pid_t thread);
  bool write_back_promised();
  void set_taking(bool taking);
  bool reclaim_and_promise(fuse_ino_t ino, pid_t thread);
  void look();
  void become_tight();

  FuseContext& context_;
  std::atomic<uint64_t> limit_{0};
  std::atomic<bool> tight_{false};
  std::atomic<Nanoseconds::rep> forgets_until_{0};  // the kernel may, of what was removed
  std::mutex mutex_;
  std::unordered_map<fuse_ino_t, Promise> promises_;  // guarded by mutex_, as below
  uint64_t promised_ = 0;                             // the sum of all
  std::vector<Storing> storing_;                      // G2: the newest promise of each thread
  uint64_t unknown_ = 0;
  Nanoseconds unknown_storing_until_{0};  // G2: later by kStoresWithin than it became tight
  bool taking_ = false;                   // an operation takes space: nothing is promised meanwhile
};

}  // namespace moltfs::fs::fuse
