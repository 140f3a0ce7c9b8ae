// SPDX-License-Identifier: MIT
// Writes of file data that were acknowledged and failed later. Each open file is told once of each
// failure of its inode, at its next fsync, whoever else has been told before (as errseq_t does in
// the kernel).
//
//   a file is opened                    gets a moment; failures before it are not its business,
//                                       unless nobody has been told of them yet
//   a write of the inode fails          gets a moment, too
//   fsync of the open file              is told if the failure is later than what it knows
//   a sync of the whole filesystem      is told of what failed since the last one and nobody was told
//                                       of, and takes nothing from anybody else
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <unordered_map>

#include "alloc/base/error.h"

namespace moltfs::alloc {

/// Thread-safe. Does no I/O.
class WriteFailures {
 public:
  /// A number that names an open file and says when it was opened. 0: no file in particular; all
  /// who give 0 count as one open file.
  using Moment = uint64_t;

  Moment opened() { return ++clock_; }
  void closed(Moment file);

  /// `owner`: an inode.
  void add(uint64_t owner, const Error& error);
  /// The last failure of `owner`, if the open file `file` has not been told of it.
  std::optional<Error> news(uint64_t owner, Moment file);
  /// A failure of any owner since the last call that no open file has been told of.
  std::optional<Error> news_for_all();

 private:
  struct Failure {
    Error error;
    Moment when = 0;
    bool told = false;  // to any open file
  };

  std::atomic<Moment> clock_{0};
  std::atomic<bool> any_{false};  // failures_ is not empty
  std::mutex mutex_;
  // Guarded by mutex_:
  std::map<uint64_t, Failure> failures_;      // the last one of each owner
  std::unordered_map<Moment, Moment> knows_;  // open file -> up to when it has been told
  Moment all_know_ = 0;
};

}  // namespace moltfs::alloc
