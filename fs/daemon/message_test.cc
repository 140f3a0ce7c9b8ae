// SPDX-License-Identifier: MIT
// Messages arrive whole, with their descriptors, or not at all.
#include "fs/daemon/message.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test/support/catch.h"

using namespace moltfs::fs::daemon;

namespace {

struct Pair {
  Pair() { REQUIRE(make_socket_pair(ends) == 0); }
  ~Pair() {
    for (const int end : ends) {
      if (end >= 0) close(end);
    }
  }
  int ends[2];
};

}  // namespace

TEST_CASE("a message brings its text and copies of its descriptors") {
  Pair pair;
  const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  REQUIRE(send_message(pair.ends[0], "text", {fd, fd}) == 0);
  for (const int flags : {int{MSG_PEEK}, 0}) {
    Message message;
    REQUIRE(receive_message(pair.ends[1], flags, message) == 0);
    CHECK(message.bytes == "text");
    REQUIRE(message.descriptors.size() == 2);
    for (const int received : message.descriptors) {
      CHECK(received != fd);
      CHECK((fcntl(received, F_GETFD) & FD_CLOEXEC) != 0);
      close(received);
    }
  }
  close(fd);
}

TEST_CASE("a closed end, an empty socket and too long a message are errors") {
  Pair pair;
  Message message;
  CHECK(receive_message(pair.ends[1], MSG_DONTWAIT, message) == EAGAIN);
  CHECK(send_message(pair.ends[0], std::string(kMessageBytesMax + 1, 'x'), {}) == EMSGSIZE);
  CHECK(send_message(pair.ends[0], std::string(kMessageBytesMax, 'x'), {}) == 0);
  CHECK(receive_message(pair.ends[1], 0, message) == 0);
  CHECK(message.bytes.size() == kMessageBytesMax);
  close(pair.ends[0]);
  pair.ends[0] = -1;
  CHECK(receive_message(pair.ends[1], 0, message) == ECONNRESET);
  CHECK(send_message(pair.ends[1], "x", {}) == EPIPE);
}

TEST_CASE("an empty message is not the end of the connection, if that was asked for") {
  Pair pair;
  REQUIRE(tell_empty_messages_from_the_end(pair.ends[1]) == 0);
  REQUIRE(send_message(pair.ends[0], {}, {}) == 0);
  REQUIRE(send_message(pair.ends[0], "text", {pair.ends[0]}) == 0);
  close(pair.ends[0]);
  pair.ends[0] = -1;
  Message message;
  CHECK(receive_message(pair.ends[1], 0, message) == 0);
  CHECK(message.bytes.empty());
  CHECK(receive_message(pair.ends[1], 0, message) == 0);
  CHECK(message.bytes == "text");
  REQUIRE(message.descriptors.size() == 1);
  close(message.descriptors.front());
  CHECK(receive_message(pair.ends[1], 0, message) == ECONNRESET);
}
