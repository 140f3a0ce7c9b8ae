// SPDX-License-Identifier: MIT
// Naming a process beyond doubt. The kernel uses process numbers again; with the start time they
// are unique.
#pragma once

#include <string>

namespace moltfs::fs {

/// Field `number` (3 or higher) of /proc/PROCESS/stat; empty if that cannot be read. `process`: a name
/// in /proc, such as "self" or "123/task/124".
std::string process_stat_field(const std::string& process, int number);
inline constexpr int kStatFlags = 9;  ///< the field with the flags PF_... of linux/sched.h

/// Field 22 of /proc/PID/stat, in clock ticks since the machine was started; empty if there is no
/// process `pid`.
std::string process_start_time(int pid);

/// "PID STARTTIME" of this process, and " NAME" of the socket that reports its end
/// (fs/daemon/end_report.h), if there is one. PID is that of its own PID namespace. STARTTIME is "-"
/// where there is no /proc.
std::string process_identity();

/// To be called before other threads call process_identity().
void set_end_report_name(const std::string& name);

}  // namespace moltfs::fs
