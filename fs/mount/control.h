// SPDX-License-Identifier: MIT
// The control interface of a mounted volume. It is reachable as xattrs of the root (getfattr,
// setfattr, the moltfs program) and as files in the hidden directory MNT/.moltfs; both lead here.
// This file knows no libfuse.
//
//   xattr of the root     file              get                              set
//   --------------------  ----------------  -------------------------------  ----------------------
//   user.moltfs.replace   .moltfs/replace   status of the replace, JSON      replace/command.h
//   user.moltfs.errors    .moltfs/errors    what could not be read, JSON     -
//   user.moltfs.message   .moltfs/message   see below                        -
//   user.moltfs.usage     .moltfs/usage     use of space, JSON               -
//   user.moltfs.devices   .moltfs/devices   devices of the volume, JSON      -
//   user.moltfs.label     .moltfs/label     label of the volume              a new label
//   user.moltfs.sync      .moltfs/sync      empty                            anything: commits
//   user.moltfs.pid       .moltfs/pid       "PID STARTTIME" of the daemon    -
//   user.moltfs.options   .moltfs/options   options of fs/policy.h           such options
//
// Setting carries out a command. If it fails, its errno is returned at once; `message` is then the
// sentence about the last failed command of the asking user, else it is empty.
//
// Only root and the user who mounted may use the interface. Everybody may read usage, devices,
// label, pid and options. The xattrs and the directory appear in no listing, so programs that copy
// files never find them.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/error.h"
#include "fs/mount/mount.h"

namespace moltfs::fs {

/// The hidden directory in the root, and the prefix of the xattrs.
inline constexpr std::string_view kControlDirectory = ".moltfs";
inline constexpr std::string_view kControlPrefix = "user.moltfs.";

class Control {
 public:
  enum class Topic : uint8_t {
    replace,
    message,
    usage,
    devices,
    label,
    sync,
    pid,
    options,
    errors
  };
  /// One line of the table above.
  struct Endpoint {
    Topic topic;
    std::string_view name;
    bool readable_by_all = false;
    bool settable = false;
  };
  /// In the order of Topic.
  static const std::vector<Endpoint>& endpoints();
  /// The endpoint `name`, without prefix or directory; null if there is none.
  static const Endpoint* find(std::string_view name);

  /// `owner`: the user who mounted.
  Control(Mount& mount, uint32_t owner) : mount_(mount), owner_(owner) {}
  uint32_t owner() const { return owner_; }
  bool may_command(uint32_t uid) const { return uid == 0 || uid == owner_; }

  /// Error: not_permitted.
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
  std::map<uint32_t, std::string> messages_;  // by user (root, the owner); guarded by mutex_
};

/// One JSON object and a newline. "read_only_reason" is null unless an error made the volume
/// read-only, "commit_waits_for" unless the last commit found no room on a device. Sizes are in
/// bytes; "available_bytes" is free for programs now, "pinned_bytes" after the next commit.
std::string usage_json(Mount& mount);
/// One JSON object and a newline. Each element of "devices" has counters since the mount, unless
/// the device is missing, and in "storage" what it is whatever its name (alloc/device/storage.h).
std::string devices_json(Mount& mount);

}  // namespace moltfs::fs
