// SPDX-License-Identifier: MIT
// moltfs umount, and umount.moltfs for umount(8).
#include <string>
#include <string_view>

#include "fs/daemon/mount_namespace.h"
#include "fs/daemon/unmount.h"
#include "fs/tool/command_line.h"
#include "fs/tool/output.h"

namespace moltfs::fs::tool {

int umount_command(int argc, char** argv) {
  CommandLine app(
      "Commits and unmounts; returns when the last commit is on the devices and they are free.\n"
      "If the commit fails, the mount stays and the exit code is 2.",
      "moltfs umount");
  std::string mountpoint;
  daemon::UnmountOptions options;
  app.add_flag("-l,--lazy", options.lazy,
               "detach the mount although files are open or the commit fails; does not wait");
  app.add_flag("-f,--force", options.force,
               "unmount without a commit before it; requests under way fail");
  app.add_option("MOUNTPOINT", mountpoint).required();
  return app.run(argc, argv, [&] {
    const auto done = daemon::unmount(mountpoint, options);
    return done ? kExitOk : fail("umount", done.error());
  });
}

int umount_helper(int argc, char** argv) {
  std::string mountpoint, name_space;
  daemon::UnmountOptions options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h") {
      print("usage: {} MOUNTPOINT [-lfnvr] [-N NAMESPACE] [-t TYPE]\n", argv[0]);
      return kExitOk;
    }
    if (word == "--version" || word == "-V") {
      print("moltfs {}\n", MOLTFS_VERSION);
      return kExitOk;
    }
    if (word == "-N" || word == "-t") {
      if (++i == argc) break;
      if (word == "-N") name_space = argv[i];
    } else if (word.starts_with('-')) {
      if (word.find('l') != std::string_view::npos) options.lazy = true;
      if (word.find('f') != std::string_view::npos) options.force = true;
    } else {
      mountpoint = word;
    }
  }
  if (mountpoint.empty()) {
    print_error("usage: {} MOUNTPOINT [-lf]\n", argv[0]);
    return kExitUsage;
  }
  if (!name_space.empty()) {
    const auto entered = daemon::enter_mount_namespace(name_space);
    if (!entered) return fail("umount", entered.error());
  }
  const auto done = daemon::unmount(mountpoint, options);
  return done ? kExitOk : fail("umount", done.error());
}

}  // namespace moltfs::fs::tool
