// SPDX-License-Identifier: MIT
// sendmsg(2) and recvmsg(2) with SCM_RIGHTS.
#include "fs/daemon/message.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>

namespace moltfs::fs::daemon {
namespace {

constexpr size_t kControlBytes =
    CMSG_SPACE(sizeof(int) * kMessageDescriptorsMax) + CMSG_SPACE(sizeof(ucred));

bool has_credentials(const msghdr& header) {
  for (const cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
       part = CMSG_NXTHDR(const_cast<msghdr*>(&header), const_cast<cmsghdr*>(part))) {
    if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_CREDENTIALS) return true;
  }
  return false;
}

void take_descriptors(const msghdr& header, std::vector<int>& descriptors) {
  for (const cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
       part = CMSG_NXTHDR(const_cast<msghdr*>(&header), const_cast<cmsghdr*>(part))) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int descriptor = -1;
      std::memcpy(&descriptor, CMSG_DATA(part) + i * sizeof descriptor, sizeof descriptor);
      descriptors.push_back(descriptor);
    }
  }
}

}  // namespace

int send_message(int socket, std::string_view bytes, const std::vector<int>& descriptors,
                 int flags) {
  if (bytes.size() > kMessageBytesMax || descriptors.size() > kMessageDescriptorsMax) {
    return EMSGSIZE;
  }
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) char control[kControlBytes] = {};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  if (!descriptors.empty()) {
    const size_t size = sizeof(int) * descriptors.size();
    header.msg_control = control;
    header.msg_controllen = CMSG_SPACE(size);
    cmsghdr* const rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(size);
    std::memcpy(CMSG_DATA(rights), descriptors.data(), size);
  }
  for (;;) {
    const ssize_t sent = sendmsg(socket, &header, flags | MSG_NOSIGNAL);
    if (sent >= 0) return 0;
    if (errno != EINTR) return errno;
  }
}

int receive_message(int socket, int flags, Message& message) {
  std::string bytes(kMessageBytesMax, '\0');
  iovec part{bytes.data(), bytes.size()};
  alignas(cmsghdr) char control[kControlBytes];
  msghdr header{};
  ssize_t size = -1;
  do {
    header = {};
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    size = recvmsg(socket, &header, flags | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  if (size < 0) return errno;
  message.descriptors.clear();
  take_descriptors(header, message.descriptors);
  message.bytes = bytes.substr(0, static_cast<size_t>(size));
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0) {
    const bool is_message = size > 0 || !message.descriptors.empty() || has_credentials(header);
    return is_message ? 0 : ECONNRESET;
  }
  for (const int descriptor : message.descriptors) close(descriptor);
  message.descriptors.clear();
  return EMSGSIZE;
}

int tell_empty_messages_from_the_end(int socket) {
  const int on = 1;
  return setsockopt(socket, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 ? 0 : errno;
}

int make_socket_pair(int (&ends)[2]) {
  return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0 ? 0 : errno;
}

}  // namespace moltfs::fs::daemon
