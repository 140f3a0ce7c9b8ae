// SPDX-License-Identifier: MIT
// The commands of `moltfs`: one function and one file for each.
//
// argv[0] is the name of the command ("replace"), the rest its words.
#pragma once

#include <string>

#include "alloc/base/error.h"

namespace moltfs::fs::tool {

// Exit codes of all commands.
inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 1;        ///< wrong words
inline constexpr int kExitCannotRun = 2;    ///< it failed
inline constexpr int kExitErrorsFound = 3;  ///< done, but errors in the data were found

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
/// fsck.moltfs, for fsck(8).
int fsck_command(int argc, char** argv);
/// mount.moltfs and mount.fuse.moltfs, for mount(8): DEVICE MOUNTPOINT [-sfnv] [-o OPTIONS] [-t
/// TYPE] [-N NAMESPACE]; also `moltfs DEVICE MOUNTPOINT -o ...`, for mount.fuse.
int mount_helper(int argc, char** argv);
/// umount.moltfs and umount.fuse.moltfs, for umount(8): MOUNTPOINT [-nlfvr] ...
int umount_helper(int argc, char** argv);

/// Prints "moltfs NOUN: MESSAGE" to standard error; returns kExitCannotRun.
int fail(const char* noun, const Error& error);

}  // namespace moltfs::fs::tool
