// SPDX-License-Identifier: MIT
// What a daemon does with what it has inherited from the process that started it: descriptors,
// signals, timers, limits, working directory.
#pragma once

#include <functional>
#include <string>

#include "alloc/base/error.h"

namespace moltfs::fs::daemon {

/// For every program, before it starts a thread: the size of stacks does not depend on RLIMIT_STACK,
/// and if the address space is limited, memory is not reserved generously.
void adapt_to_limits();

/// Calls `work`, on a stack that is as large as that of a thread if RLIMIT_STACK is less. To be called
/// in the only thread of the process.
int run_on_large_stack(const std::function<int()>& work);

/// To be called once, before any thread is started and any file is opened, with absolute paths only
/// from then on.
/// - Closes all descriptors but 0 to 2: a daemon must not hold the locks, pipes and files of its
///   parent.
/// - Leaves the working directory.
/// - Raises each limit of resources as far as the process may (to the hard limit).
/// - Stops the interval timers, which an exec(2) leaves running (alarm(2)).
/// - Gives signals their default action and blocks none, except SIGPIPE and SIGXFSZ, which are
///   ignored: writing then fails with EPIPE or EFBIG.
void leave_parent();

/// A descriptor that becomes readable on a signal that stops the daemon: SIGTERM, SIGINT, SIGHUP,
/// and SIGXCPU, which comes a little before a limit of CPU time ends the process. The signals are
/// blocked in every thread started later. `may_ignore_hangup`: a SIGHUP that was ignored before
/// leave_parent() (nohup) does not stop the daemon. Errors: those of signalfd(2).
Result<int> stop_signals(bool may_ignore_hangup);

}  // namespace moltfs::fs::daemon
