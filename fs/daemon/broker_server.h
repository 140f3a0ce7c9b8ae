// SPDX-License-Identifier: MIT
// The broker: a process beside the daemon that does for it what the daemon cannot or must not do
// itself. The daemon parses what may come from an attacker, and may be held in a sandbox (sandbox.h);
// the broker parses nothing but short requests, and keeps the rights of who mounted.
//
// It is a program of its own (the same file under the name "moltfs-broker") with one socket to the
// daemon, its standard input; it ends when the daemon does. Each request brings a socket for its
// answer. Those that only read /proc are answered at once; all others are carried out by a process of
// their own. So one that hangs (a path on a dead network filesystem) keeps nothing else waiting, and
// its change of rights and namespaces ends with it.
//
// What a daemon that an attacker has taken over can get from it, invariant B1: descriptors of
//   - devices whose superblock names the daemon's own volume,
//   - blank and retired devices (alloc/device/blank.h), opened with the rights of a running process,
//   - targets that a running moltfs command offers (fs/mount/control_call.h),
// whether a process is an administrator, the names of the block devices, and that its own
// filesystem is unmounted.
#pragma once

#include <string>

#include "alloc/base/uuid.h"
#include "fs/mount/broker.h"

namespace moltfs::fs::daemon {

/// Answers requests from `socket` until the daemon closes it. `volume`: the daemon's own. Most
/// requests are carried out by children of this process.
void serve_requests(int socket, const Uuid& volume);

/// The program moltfs-broker VOLUME. Returns the exit code.
int run_broker(int argc, char** argv);

}  // namespace moltfs::fs::daemon
