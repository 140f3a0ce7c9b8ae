// SPDX-License-Identifier: MIT
// What `moltfs mount` was asked to do: the words of "-o" and what they mean.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/error.h"
#include "fs/mount/mount.h"

namespace moltfs::fs::daemon {

struct MountRequest {
  std::vector<std::string> devices;  ///< absolute paths, or tags (fs/daemon/find_device.h)
  std::string mountpoint;            ///< absolute
  Mount::Options mount;
  bool foreground = false;
  unsigned threads = 0;                ///< that wait for requests; 0: by the number of CPUs
  uint64_t readahead_bytes = 1 << 20;  ///< of the mount
  bool idle_polling = true;            ///< idle CPUs poll while requests are many
  bool remount = false;
  std::vector<std::string> policy_words;  ///< those that make mount.policy, in order
  bool nofail = false;                  ///< for mount(8): a device that is not there is no failure
  std::vector<std::string> utab_words;  ///< for those who read mount(8)'s table: x-..., _netdev
  /// Words that the kernel (or libfuse) understands, in order: "ro", "noexec", "context=…".
  std::vector<std::string> kernel_options;
};

/// One line each, for --help.
std::string mount_options_help();

/// Reads "ro,cache=64M,device=/dev/sdb"; may be called more than once for one request. A comma or
/// backslash in a value is written "\," or "\\". Words that only mount(8) and fstab need (defaults,
/// noauto, user, _netdev, x-…) are skipped. Errors: invalid_argument with a sentence that names the
/// word.
Result<void> parse_mount_options(std::string_view text, MountRequest& request);

/// The "-o" list for libfuse. As root: others may use the mount, and set-id bits and device nodes
/// count, as on a filesystem of the kernel, unless said otherwise.
std::string kernel_option_list(const MountRequest& request, bool is_root);

/// `path` made absolute without following its last link: devices keep the name they were given.
/// A tag stays as it is.
std::string absolute_path(const std::string& path);

}  // namespace moltfs::fs::daemon
