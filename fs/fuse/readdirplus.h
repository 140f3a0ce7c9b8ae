// SPDX-License-Identifier: MIT
// Decides whether a listing of a directory carries the attributes of its files.
//
// The kernel requests the first part of each listing with attributes (READDIRPLUS), and the rest so
// if programs ask for attributes meanwhile. For `ls -l`, `cp -a` or `git status` that saves a
// LOOKUP or a GETATTR for each file. For `ls` or `find -name` it is waste, and on a volume just
// mounted an expensive one: names lie side by side, inodes do not. So the first part has attributes
// only if such requests have lately followed listings. That can be seen only after a listing
// without attributes. Therefore, while attributes are wanted, each kSample-th listing is made
// without them, to see whether they still are.
//
// Thread-safe.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>

#include "alloc/base/strong_types.h"

namespace moltfs::fs::fuse {

class ReaddirplusHeuristic {
 public:
  static constexpr unsigned kSample = 16;
  /// After so many such samples without a following request, attributes are no longer wanted.
  static constexpr unsigned kUnused = 2;

  /// Thread `lister` begins to list `directory`. True: the first part should have attributes.
  bool begins(InodeNumber directory, pid_t lister);

  /// The kernel asked for a file, not a directory, in `directory` by its name.
  void file_looked_up(InodeNumber directory) {
    for (Plain& plain : plain_) {
      if (plain.directory.load(kRelaxed) == directory.value) return followed_up(plain);
    }
  }
  /// Thread `asker` asked for the attributes of a file, not a directory, that it has not opened.
  /// The kernel had the name in its cache. Here it is unknown, so only the thread tells which
  /// listing this follows.
  void file_attributes_read(pid_t asker) {
    for (Plain& plain : plain_) {
      if (plain.lister.load(kRelaxed) == asker) return followed_up(plain);
    }
  }

 private:
  static constexpr auto kRelaxed = std::memory_order_relaxed;
  static constexpr pid_t kNobody = -1;  // 0: any thread of another pid namespace
  /// A listing without attributes that no request has followed yet. 0: none.
  struct Plain {
    std::atomic<uint64_t> directory{0};
    std::atomic<pid_t> lister{kNobody};
  };
  void followed_up(Plain& plain);

  // Several, as programs that walk a tree list a subdirectory before the files beside it.
  std::array<Plain, 8> plain_;
  std::mutex mutex_;
  bool wanted_ = false;
  unsigned since_sample_ = 0;  // listings with attributes
  unsigned unused_ = 0;        // samples
  size_t next_ = 0;            // of plain_
};

}  // namespace moltfs::fs::fuse
