// SPDX-License-Identifier: MIT
// Control: what a mounted volume can be asked and told from outside, behind two doors that lead to
// the same place: attributes of the root directory (getfattr, setfattr, the moltfs program) and
// files in the hidden directory MNT/.moltfs. This file knows no libfuse.
//
//   attribute of the root  file              get                             set
//   user.moltfs.replace    .moltfs/replace   status, JSON                    a command
//   (replace/command.h) user.moltfs.message    .moltfs/message   sentence of the asking user's   -
//                                            last failed command, or empty
//   user.moltfs.usage      .moltfs/usage     space, JSON                     -
//   user.moltfs.devices    .moltfs/devices   members, JSON                   -
//   user.moltfs.label      .moltfs/label     label of the volume             a new label
//   user.moltfs.sync       .moltfs/sync      empty                           anything: commits
//   user.moltfs.pid        .moltfs/pid       "PID STARTTIME" of the daemon   -
//   user.moltfs.options    .moltfs/options   mount options it obeys itself   such options
//
// A command that fails gives its errno at once; its sentence is then `message`. Only root and the
// user who mounted may use the doors, but for usage, devices, label, pid and options, which all may
// read. The attributes are in no list, so tools that copy attributes never meet them.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/error.h"
#include "fs/mount/mount.h"

namespace moltfs::fs {

/// The hidden directory in the root, and the prefix of the attributes.
inline constexpr std::string_view kControlDirectory = ".moltfs";
inline constexpr std::string_view kControlPrefix = "user.moltfs.";

class Control {
 public:
  enum class Topic : uint8_t { replace, message, usage, devices, label, sync, pid, options };
  struct Door {
    Topic topic;
    std::string_view name;
    bool readable_by_all = false;
    bool settable = false;
  };
  static const std::vector<Door>& doors();
  /// The door of that name, or null.
  static const Door* find(std::string_view name);

  /// `owner`: the user who mounted.
  Control(Mount& mount, uint32_t owner) : mount_(mount), owner_(owner) {}
  uint32_t owner() const { return owner_; }
  bool may_command(uint32_t uid) const { return uid == 0 || uid == owner_; }

  /// Errors: not_permitted.
  Result<std::string> get(Topic topic, uint32_t uid);
  /// Carries out `text`. Errors: not_permitted, and those of the command; with a sentence.
  Result<void> set(Topic topic, std::string_view text, uint32_t uid);

 private:
  Result<void> carry_out(Topic topic, std::string_view text);
  Result<void> set_label(std::string_view text);
  Result<void> set_options(std::string_view text);

  Mount& mount_;
  const uint32_t owner_;
  std::mutex mutex_;
  std::map<uint32_t, std::string> messages_;  // guarded by mutex_; of root and the owner
};

/// One JSON object each, keys as in README.
std::string usage_json(Mount& mount);
std::string devices_json(Mount& mount);
/// `text` as a JSON string, with its quotes.
std::string json_quote(std::string_view text);
/// "PID STARTTIME" of this process, as /proc/self/stat counts the latter.
std::string process_identity();

}  // namespace moltfs::fs
