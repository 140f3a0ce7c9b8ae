// SPDX-License-Identifier: MIT
// The mount options of Policy.
#include "fs/policy.h"

namespace moltfs::fs {
namespace {

struct AtimeWord {
  Policy::Atime rule;
  std::string_view word;
};
constexpr AtimeWord kAtimeWords[] = {{Policy::Atime::relative, "relatime"},
                                     {Policy::Atime::never, "noatime"},
                                     {Policy::Atime::strict, "strictatime"}};

struct Switch {
  std::string_view word;
  bool Policy::*member;
  bool value;
};
constexpr Switch kSwitches[] = {{"diratime", &Policy::directory_atime, true},
                                {"nodiratime", &Policy::directory_atime, false},
                                {"dirsync", &Policy::sync_names, true},
                                {"sync", &Policy::sync_all, true},
                                {"async", &Policy::sync_all, false}};

}  // namespace

bool take_policy_word(std::string_view word, Policy& policy) {
  for (const AtimeWord& known : kAtimeWords) {
    if (known.word != word) continue;
    policy.atime = known.rule;
    return true;
  }
  for (const Switch& known : kSwitches) {
    if (known.word != word) continue;
    policy.*known.member = known.value;
    return true;
  }
  return false;
}

std::string to_words(const Policy& policy) {
  std::string words;
  for (const AtimeWord& known : kAtimeWords) {
    if (known.rule == policy.atime) words = known.word;
  }
  if (!policy.directory_atime) words += ",nodiratime";
  if (policy.sync_names) words += ",dirsync";
  if (policy.sync_all) words += ",sync";
  return words;
}

}  // namespace moltfs::fs
