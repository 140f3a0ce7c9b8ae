// SPDX-License-Identifier: MIT
// The control interface of a mounted volume. It is reachable by an ioctl of the root
// (fs/mount/control_call.h; the program moltfs), as xattrs of the root (getfattr, setfattr), and as
// files in the hidden directory MNT/.moltfs. All lead here. This file knows no libfuse.
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
// Who may use it: who has CAP_SYS_ADMIN in the mount's user namespace, as filesystems of the kernel
// ask, and the ordinary user who mounted. All others may only read `pid`, which tells no more than
// ps(1), so that everybody who may unmount can wait for the daemon.
//
// A target that is named by an xattr or a control file must be blank or retired, because a program
// that only copies files may write there: what a command destroys must have been named by somebody
// who runs moltfs. Such a target is opened as the caller (fs/mount/broker.h).
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/error.h"
#include "fs/mount/broker.h"
#include "fs/mount/mount.h"
#include "replace/command.h"

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
    bool settable = false;
    bool readable_by_all = false;
  };
  /// -o control=off|status|full: nothing (and neither the xattrs nor the directory exist), reading
  /// only, everything. `pid` can always be asked for by the ioctl.
  enum class Level : uint8_t { off, status, full };

  struct Options {
    Level level = Level::full;
    uint32_t owner = 0;  ///< the user who mounted
    /// The owner may give commands. False if root mounted: then only administrators may.
    bool owner_may_command = false;
    Broker* broker =
        nullptr;  ///< null: no other user may, and targets come from the volume's opener
  };

  /// How a command was given.
  enum class Interface : uint8_t { ioctl, name };

  /// In the order of Topic.
  static const std::vector<Endpoint>& endpoints();
  /// The endpoint `name`, without prefix or directory; null if there is none.
  static const Endpoint* find(std::string_view name);

  Control(Mount& mount, const Options& options);
  uint32_t owner() const { return options_.owner; }
  Level level() const { return options_.level; }
  Broker* broker() const { return options_.broker; }
  /// Error: not_permitted, with a sentence.
  Result<void> check_may_command(const CallingProcess& caller);

  /// Errors: not_permitted; not_supported if the control is off; with a sentence.
  Result<std::string> get(Topic topic, const CallingProcess& caller);
  /// Carries out `text`. `socket`: with the target, for Interface::ioctl; else -1. Errors: as get,
  /// and those of the command; with a sentence.
  Result<void> set(Topic topic, std::string_view text, const CallingProcess& caller,
                   Interface interface = Interface::name, int socket = -1);

 private:
  Result<void> carry_out(Topic topic, std::string_view text, const CallingProcess& caller,
                         Interface interface, int socket);
  Result<void> replace(replace::Command command, const CallingProcess& caller, Interface interface,
                       int socket);
  Result<void> set_label(std::string_view text);
  Result<void> set_options(std::string_view text);

  Mount& mount_;
  const Options options_;
  const std::string identity_;  // of this process
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
