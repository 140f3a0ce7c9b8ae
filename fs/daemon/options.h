// SPDX-License-Identifier: MIT
// Mount options: one table from which the parser, the help text and the table in README.md come.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/error.h"
#include "fs/mount/control.h"
#include "fs/mount/mount.h"

namespace moltfs::fs::daemon {

/// What `moltfs mount` is asked to do.
struct MountRequest {
  std::vector<std::string> devices;  ///< absolute paths, or tags (fs/daemon/find_device.h)
  std::string mountpoint;            ///< absolute
  Mount::Options mount;
  bool cache_is_given = false;  ///< mount.cache_bytes is not the default
  bool foreground = false;
  unsigned threads = 0;                ///< that wait for requests; 0: by the number of CPUs
  uint64_t readahead_bytes = 1 << 20;  ///< of the kernel for this mount; 0: the kernel's default
  bool idle_polling = true;            ///< the option idlepoll
  Control::Level control = Control::Level::full;
  bool sandbox = true;  ///< the option sandbox
  bool remount = false;
  bool nofail = false;                      ///< a device that does not exist is not an error
  std::vector<std::string> policy_words;    ///< the words that were applied to mount.policy
  std::vector<std::string> volume_words;    ///< words that concern the volume, at all its mounts
  std::vector<std::string> utab_words;      ///< words to record in /run/mount/utab
  std::vector<std::string> kernel_options;  ///< words for libfuse and the kernel, in order
};

/// All options in plain text, for --help.
std::string mount_options_help();
/// All options as a table in Markdown, for README.md.
std::string mount_options_table();

/// Applies a list like "ro,cache=64M,device=/dev/sdb" to `request`. A comma or backslash in a value
/// is written "\," or "\\". May be called more than once for one request; a later word wins over an
/// earlier one. Error: invalid_argument; the sentence names the word.
Result<void> parse_mount_options(std::string_view text, MountRequest& request);

/// The "-o" list for libfuse. For root, these are the default, as for filesystems of the kernel:
/// all users may use the mount, set-id bits and device nodes work.
std::string kernel_option_list(const MountRequest& request, bool is_root);

}  // namespace moltfs::fs::daemon
