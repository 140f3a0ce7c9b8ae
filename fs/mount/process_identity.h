// SPDX-License-Identifier: MIT
// Naming a process beyond doubt. The kernel uses process numbers again; with the start time they
// are unique.
#pragma once

#include <string>

namespace moltfs::fs {

/// Field 22 of /proc/PID/stat, in clock ticks since the machine was started; empty if there is no
/// process `pid`.
std::string process_start_time(int pid);

/// "PID STARTTIME" of this process.
std::string process_identity();

}  // namespace moltfs::fs
