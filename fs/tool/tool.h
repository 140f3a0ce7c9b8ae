// SPDX-License-Identifier: MIT
// The commands of `moltfs`: one function and one file for each noun.
//
// argv[0] is the noun itself ("replace"), the rest its words. Exit codes, the same everywhere:
#pragma once

#include <string>

#include "alloc/base/error.h"

namespace moltfs::fs::tool {

inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 1;        ///< wrong words
inline constexpr int kExitCannotRun = 2;    ///< could not do it, or it failed
inline constexpr int kExitErrorsFound = 3;  ///< done, and something is wrong with the data

int mkfs_command(int argc, char** argv);
int mount_command(int argc, char** argv);
int umount_command(int argc, char** argv);
int replace_command(int argc, char** argv);
int device_command(int argc, char** argv);
int usage_command(int argc, char** argv);
int sync_command(int argc, char** argv);
int label_command(int argc, char** argv);
int check_command(int argc, char** argv);
int dump_command(int argc, char** argv);
/// As fsck(8) calls it (fsck.moltfs).
int fsck_command(int argc, char** argv);
/// As mount(8) calls it (mount.moltfs, mount.fuse.moltfs): DEVICE MOUNTPOINT [-sfnv] [-o OPTIONS]
/// [-t TYPE] [-N NAMESPACE]; also `moltfs DEVICE MOUNTPOINT -o …` as mount.fuse does.
int mount_helper(int argc, char** argv);
/// As umount(8) calls it (umount.moltfs, umount.fuse.moltfs): MOUNTPOINT [-nlfvr] ...
int umount_helper(int argc, char** argv);

/// Prints "moltfs NOUN: MESSAGE" to standard error; returns kExitCannotRun.
int fail(const char* noun, const Error& error);

}  // namespace moltfs::fs::tool
