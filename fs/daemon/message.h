// SPDX-License-Identifier: MIT
// Messages with file descriptors, over connected sockets of type SOCK_SEQPACKET.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moltfs::fs::daemon {

inline constexpr size_t kMessageBytesMax = 65536;
inline constexpr size_t kMessageDescriptorsMax = 64;

struct Message {
  std::string bytes;
  std::vector<int> descriptors;  ///< the receiver closes them
};

/// Sends copies of the descriptors; the sender keeps its own. `flags`: MSG_DONTWAIT. Returns 0 or an
/// errno.
int send_message(int socket, std::string_view bytes, const std::vector<int>& descriptors,
                 int flags = 0);

/// Waits for a message. `flags`: MSG_DONTWAIT, MSG_PEEK (the message stays; the descriptors are
/// copies). Returns 0 or an errno; ECONNRESET if the other end is closed, or if an empty message
/// came and cannot be told from that. A message that is longer than allowed is EMSGSIZE.
int receive_message(int socket, int flags, Message& message);

/// From now on `socket` receives empty messages as such: each message brings its sender's credentials
/// with it (SO_PASSCRED), the end of the connection does not. Returns 0 or an errno.
int tell_empty_messages_from_the_end(int socket);

/// Two connected sockets, closed on exec. Returns 0 or an errno.
int make_socket_pair(int (&ends)[2]);

}  // namespace moltfs::fs::daemon
