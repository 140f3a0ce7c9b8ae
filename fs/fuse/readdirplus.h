// SPDX-License-Identifier: MIT
// Whether those who list directories go on to look at the files.
//
// The kernel asks for the first part of each listing with attributes (READDIRPLUS), and for the
// rest if files are looked at meanwhile. For `ls -l`, `cp -a` or `git status` that saves a LOOKUP
// or a GETATTR for each file; for `ls` or `find -name` it is waste, and on a volume just mounted a
// costly one: names lie side by side, inodes do not. So the first part has attributes if lately
// listings were followed by such requests. That can be seen only after listings without attributes:
// while they are wanted, each kSample-th is made without, to see whether they still are.
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
  /// So many samples that nobody followed up: attributes are wanted no more.
  static constexpr unsigned kUnused = 2;

  /// Thread `lister` begins to list `directory`; true: the first part is to have attributes.
  bool begins(InodeNumber directory, pid_t lister);

  /// The kernel asked for a file, not a directory, in `directory` by its name.
  void file_looked_up(InodeNumber directory) {
    for (Plain& plain : plain_) {
      if (plain.directory.load(kRelaxed) == directory.value) return followed_up(plain);
    }
  }
  /// The kernel asked for the attributes of a file, not a directory, that `asker` did not open. (It
  /// knows the name from before. We do not: a file may have many, and keeps none of them.)
  void file_looked_at(pid_t asker) {
    for (Plain& plain : plain_) {
      if (plain.lister.load(kRelaxed) == asker) return followed_up(plain);
    }
  }

 private:
  static constexpr auto kRelaxed = std::memory_order_relaxed;
  static constexpr pid_t kNobody = -1;  // 0 stands for all of other PID namespaces
  /// What was listed without attributes, and has not been followed up. 0: nothing.
  struct Plain {
    std::atomic<uint64_t> directory{0};
    std::atomic<pid_t> lister{kNobody};
  };
  void followed_up(Plain& plain);

  // Several: who walks a tree lists a subdirectory before it is done with the files beside it.
  std::array<Plain, 8> plain_;
  std::mutex mutex_;
  bool wanted_ = false;
  unsigned since_sample_ = 0;  // listings with attributes
  unsigned unused_ = 0;        // samples
  size_t next_ = 0;            // of plain_
};

}  // namespace moltfs::fs::fuse
