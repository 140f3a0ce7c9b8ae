// SPDX-License-Identifier: MIT
// A life: a list of calls made on both worlds, one after the other, and compared.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "test/e2e/differ/rules.h"

namespace differ {

/// The first unexplained difference of a life.
struct Finding {
  size_t at = 0;          ///< index of the call
  std::string text;       ///< the call, and each fact that differs
  std::string signature;  ///< kind of call and names of the facts; equal for the same fault
};

class Lives {
 public:
  /// `trace`: prints each call and its result.
  Lives(World& ours, World& theirs, Peer peer, bool trace)
      : ours_(ours), theirs_(theirs), peer_(peer), trace_(trace) {}

  /// Makes `calls` on fresh trees, until the first finding. Every `tree_every` calls and at the end
  /// the whole trees are compared.
  std::optional<Finding> run(const std::vector<Call>& calls, size_t tree_every);
  /// Leaves out what the finding does not need; gives up after `seconds`.
  std::vector<Call> shrink(std::vector<Call> calls, const Finding& finding, unsigned seconds);

  const std::map<std::string, uint64_t>& explained() const { return explained_; }
  /// How often each kind of call succeeded and failed.
  const std::map<std::string, std::pair<uint64_t, uint64_t>>& tally() const { return tally_; }

 private:
  void begin();
  static Outcome make(World& world, const Call& call);
  Facts make_and_look(World& world, const Call& call);
  std::optional<Finding> step(size_t at, const Call& call);
  std::optional<Finding> compare_trees(size_t at, const Call& call);
  bool still_shows(const std::vector<Call>& calls, const Finding& wanted);
  std::optional<Finding> compare(size_t at, const Call& call, bool whole, const Facts& ours,
                                 const Facts& theirs);

  World& ours_;
  World& theirs_;
  const Peer peer_;
  const bool trace_;
  unsigned lives_ = 0;
  std::map<std::string, uint64_t> explained_;
  std::map<std::string, std::pair<uint64_t, uint64_t>> tally_;
};

}  // namespace differ
