// SPDX-License-Identifier: MIT
// The ioctl on the root of a mount by which the program moltfs gives commands.
//
// Why an ioctl, and not only attributes and control files: copying a directory (cp -a, tar, rsync)
// writes attributes and files, but never makes this ioctl. So what can destroy what a target held
// (--force) is only taken from here. It also brings a target that the caller has opened himself, so
// that his rights and his mount namespace count, and it takes the sentence about an error back.
//
// The target: the caller makes a pair of connected sockets (SOCK_SEQPACKET), sends kTargetMessage
// with the descriptor (SCM_RIGHTS) into one of them, and names the other in the call. The broker
// takes a copy of that socket (pidfd_getfd) and looks at the message. So a daemon that an image has
// taken over gets no other descriptor of the caller, and none of other processes.
#pragma once

#include <linux/ioctl.h>

#include <cstdint>
#include <string_view>

namespace moltfs::fs {

inline constexpr std::string_view kTargetMessage = "moltfs: a target for a replace";

struct ControlCall {
  uint32_t is_set = 0;      ///< 1: carries out `text`; 0: only asks
  int32_t socket = -1;      ///< with the target for "start"; -1: none
  char endpoint[24] = {};   ///< a name of Control::endpoints(), ended by 0
  uint32_t text_bytes = 0;  ///< in: a command; out: the answer, or the sentence about the error
  char text[8192];
};
static_assert(sizeof(ControlCall) == 8228);

/// Fails with the errno of the command. ERANGE: the answer is longer than `text`.
inline constexpr unsigned kControlCall = _IOWR('m', 1, ControlCall);

}  // namespace moltfs::fs
