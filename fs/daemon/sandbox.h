// SPDX-License-Identifier: MIT
// The sandbox: what the daemon gives up once it serves. It parses what may come from an attacker
// (images, requests); whoever takes it over shall get nothing but the open devices and the mount.
//
//   capabilities   all dropped: the devices are open, and the broker (broker_server.h) does the rest
//   no_new_privs   no set-id program gives any back
//   Landlock       no file can be opened but /dev/fuse, no TCP connection made, no abstract socket
//                  outside connected to, no process outside signalled (as far as the kernel has it)
//   seccomp        only the system calls of kAllowed (sandbox.cc); without Landlock no open(2). No
//                  exec, no fork, no new socket to connect, no ptrace, no mount, no io_uring (rings
//                  that exist are limited to reading, writing and syncing: uring_engine.cc)
//
// Every thread is confined. Threads that are started later inherit it.
#pragma once

#include <string>
#include <vector>

namespace moltfs::fs::daemon {

/// Confines all threads of this process, for ever. Returns what could not be had, a sentence each;
/// the rest is in force. REQUIRES: no thread blocks the signal SIGRTMAX.
std::vector<std::string> enter_sandbox();

}  // namespace moltfs::fs::daemon
