// SPDX-License-Identifier: MIT
// The oracle: what a client's directory must hold.
//
// Each client works alone in a directory of its own, so its history is a line of states: state k is
// what the directory holds after its k-th operation. In moltfs every operation that changes names,
// sizes or content is atomic and ordered. Hence the rule after a power cut: the directory equals
// one state k with  durable <= k <= issued. There is one exception: if the operation that follows
// state k changes many blocks, a state in between is allowed, in which each block is old or new.
// While mounted, the directory equals the newest state.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/filesystem.h"

namespace moltfs::sim {

using FileId = uint64_t;  // the oracle's own

struct FileState {
  std::shared_ptr<const std::string> content = std::make_shared<const std::string>();
  std::map<std::string, std::string> xattrs;
};

/// Immutable once in a history; copying is cheap (contents are shared).
struct DirState {
  std::map<std::string, FileId> names;
  std::map<FileId, FileState> files;
};

/// Same names, same grouping into hard links, same contents and xattrs. `why`: first difference.
bool same(const DirState& a, const DirState& b, std::string* why);
/// `between` could be what a cut leaves while the operation from `old` to `fresh` is under way.
bool lies_between(const DirState& old, const DirState& fresh, const DirState& between);

class History {
 public:
  explicit History(DirState start) : states_{std::make_shared<const DirState>(std::move(start))} {}
  const DirState& newest() const { return *states_.back(); }
  /// The operation that leads to `next` is about to be issued.
  void issue(DirState next);
  /// The operation was refused (ENOSPC and the like): it never happened.
  void take_back();
  /// The operation returned success: reads give its state from now on.
  size_t completed() const { return first_ + states_.size() - 1; }
  /// Everything up to state `index` is durable.
  void durable(size_t index);
  /// After a cut: finds the state that equals `found` and makes it the only one. False: none does.
  bool recover(const DirState& found, std::string* why);

 private:
  std::vector<std::shared_ptr<const DirState>> states_;  // from `first_` = the durable one on
  size_t first_ = 0;
};

/// Reads a whole directory (files only) through the filesystem.
Result<DirState> read_state(fs::Filesystem& filesystem, InodeNumber directory);

}  // namespace moltfs::sim
