// SPDX-License-Identifier: MIT
// The words of the policy: each does what it says, and what comes out goes in again.
#include "fs/policy.h"

#include "test/support/catch.h"

namespace moltfs::fs {
namespace {

Policy after(std::initializer_list<std::string_view> words) {
  Policy policy;
  for (const auto word : words) CHECK(take_policy_word(word, policy));
  return policy;
}

TEST_CASE("a policy is parsed from words") {
  CHECK(after({"noatime"}).atime == Policy::Atime::never);
  CHECK(after({"noatime", "strictatime"}).atime == Policy::Atime::strict);
  CHECK(after({"strictatime", "relatime"}) == Policy{});
  CHECK_FALSE(after({"nodiratime"}).directory_atime);
  CHECK(after({"nodiratime", "diratime"}) == Policy{});
  CHECK(after({"dirsync"}).sync_names);
  CHECK_FALSE(after({"dirsync"}).sync_all);
  CHECK(after({"sync"}).sync_all);
  CHECK(after({"sync", "async"}) == Policy{});
  Policy policy;
  for (const char* other : {"", "atime", "ro", "noatime,relatime", "nodirsync"}) {
    CHECK_FALSE(take_policy_word(other, policy));
  }
  CHECK(policy == Policy{});
}

TEST_CASE("a policy is printed as words") {
  CHECK(to_words({}) == "relatime");
  CHECK(to_words(after({"noatime", "nodiratime", "dirsync", "sync"})) ==
        "noatime,nodiratime,dirsync,sync");
  CHECK(to_words(after({"strictatime"})) == "strictatime");
}

}  // namespace
}  // namespace moltfs::fs
