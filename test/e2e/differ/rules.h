// SPDX-License-Identifier: MIT
// Differences between moltfs and a kernel filesystem that are meant: each has a name, a reason and
// a test for it. README lists them under "deliberate differences".
#pragma once

#include <span>
#include <string>

#include "test/e2e/differ/call.h"
#include "test/e2e/differ/world.h"

namespace differ {

enum class Peer : uint8_t { ext4, btrfs };

/// A fact that differs after a call (of the whole tree: `call` is null).
struct Difference {
  const Call* call = nullptr;
  std::string fact;
  std::string ours, theirs;  ///< "-" where one has no such fact
  const Facts* our_facts = nullptr;
};

struct Rule {
  const char* name;
  const char* reason;
  bool (*explains)(const Difference&, Peer);
};
std::span<const Rule> rules();

/// True for calls that are not made because that peer alone answers them in a way of its own, which
/// leaves the two trees different.
bool is_left_out(const Call& call, Peer peer);

/// The rule that explains it, or null.
const Rule* explanation_of(const Difference& difference, Peer peer);

}  // namespace differ
