// SPDX-License-Identifier: MIT
// The sandbox: what the daemon gives up once it serves. It parses what may come from an attacker
// (images, requests); whoever takes it over shall get nothing but the open devices and the mount.
//
//   capabilities   all dropped: the devices are open, and the broker (broker_server.h) does the rest
//   no_new_privs   no set-id program gives any back
//   Landlock       no file can be opened but /dev/fuse, no TCP connection made, no abstract socket
//                  outside connected to (as far as the kernel has it)
//   seccomp        only the system calls of allowed_calls() (sandbox.cc); without Landlock no
//                  open(2). No exec, no fork, no new socket to connect, no signal to others, no
//                  ptrace, no mount, no executable memory, no io_uring (rings that exist are
//                  limited to reading, writing and syncing: uring_engine.cc)
//
// Every thread is confined. Threads that are started later inherit it. If a part is missing, the
// others hold: a file can be opened only if Landlock restricts every thread.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace moltfs::fs::daemon {

/// Confines all threads of this process, for ever. Returns what could not be had, a phrase each; the
/// rest is in force. `answer_within`: how long to wait for the threads, each of which confines itself
/// on the signal SIGRTMAX. One that waits for a device in the kernel answers when the device does.
std::vector<std::string> enter_sandbox(
    std::chrono::milliseconds answer_within = std::chrono::seconds(10));

}  // namespace moltfs::fs::daemon
