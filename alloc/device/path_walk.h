// SPDX-License-Identifier: MIT
// Walking a path name by name, without looking up a name on one filesystem. Used only inside this
// folder.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "alloc/base/descriptor.h"
#include "alloc/device/mountinfo.h"

namespace moltfs::alloc {

/// Follows a path as the kernel does: links, "..", mounts, and the rule for links in directories
/// with the sticky bit (proc_sys_fs(5), protected_symlinks). Links in /proc lead to files and not to
/// names; those the kernel follows. Automounts are not triggered.
class PathWalk {
 public:
  /// No name is looked up on `forbidden`, the device number of a filesystem.
  explicit PathWalk(dev_t forbidden) : forbidden_(forbidden) {}

  /// A descriptor with O_PATH. Empty: see met_served() and error().
  Descriptor open(const std::string& path);
  /// The path would have needed a look-up on the forbidden filesystem, or leads there.
  bool met_served() const { return met_served_; }
  int error() const { return error_; }  ///< an errno

 private:
  struct Place {
    Descriptor fd;
    dev_t device = 0;
    mode_t mode = 0;
    uid_t owner = 0;
    bool is_proc = false;
  };
  bool is_on_proc(uint64_t mount_id);
  bool take(int fd, Place& place);
  bool step(const std::string& name, Place& place);
  bool follow(Place& directory, Place& link);
  bool fail(int error);

  const dev_t forbidden_;
  std::optional<std::vector<MountinfoEntry>> mounts_;  // read when it is first needed
  bool met_served_ = false;
  int error_ = 0;
  unsigned links_ = 0;
  std::string rest_;  // of the path
};

}  // namespace moltfs::alloc
