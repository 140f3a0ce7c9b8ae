// SPDX-License-Identifier: MIT
// The broker gives away no descriptor that it should not, whatever it is asked.
#include "fs/daemon/broker_server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <random>

#include "alloc/device/system_devices.h"
#include "alloc/disk/superblock.h"
#include "fs/daemon/broker_process.h"
#include "fs/daemon/broker_protocol.h"
#include "fs/daemon/message.h"
#include "fs/mount/control_call.h"
#include "fs/mount/mount.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::daemon;

namespace {

constexpr uint64_t kSize = 64ull << 20;

/// A broker of the volume `volume` in a child process, and a directory for files.
class Lab {
 public:
  explicit Lab(const Uuid& volume = {}) {
    REQUIRE(mkdtemp(directory_) != nullptr);
    int ends[2];
    REQUIRE(make_socket_pair(ends) == 0);
    child_ = fork();
    if (child_ == 0) {
      close(ends[0]);
      serve_requests(ends[1], volume);
      _exit(0);
    }
    close(ends[1]);
    socket = ends[0];
    broker.connect(socket);
  }
  ~Lab() {
    broker.stop();
    waitpid(child_, nullptr, 0);
    for (const std::string& path : paths_) unlink(path.c_str());
    rmdir(directory_);
  }

  std::string path(const std::string& name) {
    paths_.push_back(directory_ + ("/" + name));
    return paths_.back();
  }
  /// A file of kSize bytes with `text` at `offset`.
  std::string file(const std::string& name, const std::string& text = {}, off_t offset = 0) {
    const std::string made = path(name);
    const int fd = open(made.c_str(), O_RDWR | O_CREAT, 0600);
    REQUIRE(ftruncate(fd, kSize) == 0);
    REQUIRE(pwrite(fd, text.data(), text.size(), offset) == static_cast<ssize_t>(text.size()));
    close(fd);
    return made;
  }

  BrokerProcess broker;
  int socket = -1;  ///< the daemon's end; belongs to `broker`

 private:
  char directory_[32] = "/tmp/moltfs-broker.XXXXXX";
  pid_t child_ = -1;
  std::vector<std::string> paths_;
};

CallingProcess self() {
  return {geteuid(), getpid()};
}

/// True if `descriptors` has the file at `path`, for reading and writing.
bool is_open(Result<std::vector<int>> descriptors, const std::string& path) {
  if (!descriptors) return false;
  struct stat given {
  }, named{};
  const int fd = descriptors.value().front();
  const bool is_same = fstat(fd, &given) == 0 && stat(path.c_str(), &named) == 0 &&
                       given.st_dev == named.st_dev && given.st_ino == named.st_ino;
  const bool is_writable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
  for (const int descriptor : descriptors.value()) close(descriptor);
  return is_same && is_writable;
}

Error refusal(const Result<std::vector<int>>& descriptors) {
  REQUIRE(!descriptors);
  return descriptors.error();
}

/// A process that has the capabilities `kept` only, of user `uid`; it waits until it is destroyed.
class OtherProcess {
 public:
  explicit OtherProcess(uid_t uid, bool in_new_user_namespace = false) : uid_(uid) {
    int ready[2];
    REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
    pid_ = fork();
    if (pid_ == 0) {
      bool done = setresuid(uid, uid, uid) == 0;
      if (in_new_user_namespace) done = done && unshare(CLONE_NEWUSER) == 0;
      [[maybe_unused]] const auto written = write(ready[1], done ? "1" : "0", 1);
      for (;;) pause();
    }
    char byte = 0;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    close(ready[1]);
    is_ready = byte == '1';
  }
  ~OtherProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  CallingProcess caller() const { return {uid_, pid_}; }
  bool is_ready = false;

 private:
  const uid_t uid_;
  pid_t pid_ = -1;
};

/// A message with `count` descriptors.
void send_descriptors(int socket, size_t count) {
  std::vector<char> control(CMSG_SPACE(count * sizeof(int)));
  char byte = 'x';
  iovec part{&byte, 1};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* const rights = CMSG_FIRSTHDR(&header);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(count * sizeof(int));
  const std::vector<int> descriptors(count, socket);
  std::memcpy(CMSG_DATA(rights), descriptors.data(), count * sizeof(int));
  REQUIRE(sendmsg(socket, &header, 0) == 1);
}

bool is_root() {
  return geteuid() == 0;
}

}  // namespace

TEST_CASE("a blank file is opened; data anywhere, and what is not a device, is refused") {
  Lab lab;
  const std::string blank = lab.file("blank");
  CHECK(is_open(lab.broker.open_blank(self(), blank), blank));
  const Error data = refusal(lab.broker.open_blank(self(), lab.file("data", "x", 33'000'000)));
  CHECK(data == Errc::foreign_signature);
  CHECK(data.message().find("data at offset 33000000") != std::string::npos);
  CHECK(refusal(lab.broker.open_blank(self(), "/tmp")) == Errc::invalid_argument);
  CHECK(refusal(lab.broker.open_blank(self(), "/dev/null")) == Errc::invalid_argument);
  CHECK(refusal(lab.broker.open_blank(self(), lab.path("none"))) == Errc::not_found);
  CHECK(refusal(lab.broker.open_blank(self(), "blank")) == Errc::bad_command);
}

TEST_CASE("a device that a replace has retired may be used again, others of moltfs not") {
  Lab lab;
  RealRuntime runtime;
  const auto devices = alloc::make_system_devices(runtime);
  const std::string path = lab.file("retired");
  REQUIRE(make_filesystem(runtime, *devices, {path}, {}));
  CHECK(refusal(lab.broker.open_blank(self(), path)) == Errc::foreign_signature);
  {
    const auto device = devices->open(path, {}).value();
    auto super = alloc::read_superblock(devices->engine(), *device).value();
    super.role = alloc::DeviceRole::replaced;
    super.devices.front().uuid = Uuid::generate(runtime);
    super.successor.emplace();
    super.successor->devid = super.devid;
    super.successor->uuid = super.devices.front().uuid;
    const auto written = alloc::write_superblock(devices->engine(), *device, super);
    if (!written) FAIL(written.error().message());
  }
  CHECK(is_open(lab.broker.open_blank(self(), path), path));
}

TEST_CASE("a process without capabilities is no administrator, whatever its user") {
  if (!is_root()) return;
  Lab lab;
  CHECK(lab.broker.check_admin(self()));
  const OtherProcess nobody(65534), namespaced(0, true);
  CHECK(lab.broker.check_admin(nobody.caller()).error() == Errc::not_permitted);
  if (namespaced.is_ready) {  // with all capabilities, but in a user namespace of its own
    CHECK(lab.broker.check_admin(namespaced.caller()).error() == Errc::not_permitted);
  }
  // A request that was made with other rights than those of the process that waits for it.
  CHECK(lab.broker.check_admin({1000, getpid()}).error() == Errc::not_permitted);
  // Somebody who is not seen.
  CHECK(lab.broker.check_admin({0, 0}).error() == Errc::not_permitted);
  CHECK(lab.broker.check_admin({0, 99'999'999}).error() == Errc::not_permitted);
  // kthreadd, if there is one: it has all capabilities, and makes requests for others.
  const Error kernel = lab.broker.check_admin({0, 2}).error();
  CHECK(kernel == Errc::not_permitted);
}

TEST_CASE("a target is opened with the rights of the caller") {
  if (!is_root()) return;
  Lab lab;
  const std::string blank = lab.file("blank");
  const OtherProcess nobody(65534);
  CHECK(refusal(lab.broker.open_blank(nobody.caller(), blank)) == Errc::access_denied);
  CHECK(is_open(lab.broker.open_blank(self(), blank), blank));
}

TEST_CASE("a target that the caller offers is taken, with whatever is on it") {
  Lab lab;
  const std::string path = lab.file("data", "x");
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  int ends[2];
  REQUIRE(make_socket_pair(ends) == 0);
  REQUIRE(send_message(ends[0], kTargetMessage, {fd}) == 0);
  CHECK(is_open(lab.broker.take_target(self(), ends[1], path), path));
}

TEST_CASE("nothing is taken from a process that offers no target") {
  Lab lab;
  const std::string path = lab.file("data", "x");
  const int writable = open(path.c_str(), O_RDWR | O_CLOEXEC);
  const int readable = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  CHECK(refusal(lab.broker.take_target(self(), writable, path)) == Errc::access_denied);
  CHECK(refusal(lab.broker.take_target(self(), 9999, path)) == Errc::access_denied);
  int ends[2];
  REQUIRE(make_socket_pair(ends) == 0);
  CHECK(refusal(lab.broker.take_target(self(), ends[1], path)) == Errc::access_denied);
  REQUIRE(send_message(ends[0], "another program's message", {writable}) == 0);
  CHECK(refusal(lab.broker.take_target(self(), ends[1], path)) == Errc::access_denied);
  Message theirs;  // which the other program can still read
  CHECK(receive_message(ends[1], MSG_DONTWAIT, theirs) == 0);
  REQUIRE(send_message(ends[0], kTargetMessage, {readable}) == 0);
  CHECK(refusal(lab.broker.take_target(self(), ends[1], path)) == Errc::access_denied);
}

TEST_CASE("the daemon gets the devices of its own volume, and none of another") {
  RealRuntime runtime;
  const auto devices = alloc::make_system_devices(runtime);
  Lab files;
  const std::string own = files.file("own"), other = files.file("other");
  REQUIRE(make_filesystem(runtime, *devices, {own}, {}));
  REQUIRE(make_filesystem(runtime, *devices, {other}, {}));
  Uuid volume;
  {
    const auto device = devices->open(own, {}).value();
    volume = alloc::read_superblock(devices->engine(), *device).value().volume;
  }
  Lab lab(volume);
  CHECK(is_open(lab.broker.open_own(own, false, true), own));
  CHECK(refusal(lab.broker.open_own(other, false, true)) == Errc::not_found);
  CHECK(refusal(lab.broker.open_own(other, true, false)) == Errc::not_found);
  CHECK(refusal(lab.broker.open_own(files.file("blank"), true, false)) == Errc::not_found);
  CHECK(refusal(lab.broker.open_own("/etc/passwd", true, false)).code != Errc::not_supported);
}

TEST_CASE("messages that are no requests are dropped, and the next request is answered") {
  Lab lab;
  const std::string path = lab.file("blank");
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  std::mt19937_64 random(1);
  for (unsigned i = 0; i < 200; ++i) {
    static constexpr BrokerJob kJobs[] = {BrokerJob::check_admin, BrokerJob::groups,
                                          BrokerJob::open_blank,  BrokerJob::take_target,
                                          BrokerJob::open_own,    BrokerJob::candidates};
    BrokerRequest request;
    request.job = i % 2 == 0 ? kJobs[random() % std::size(kJobs)]
                             : static_cast<BrokerJob>(100 + random() % 1000);
    request.uid = static_cast<uint32_t>(random());
    request.pid = i % 3 == 0 ? getpid() : static_cast<int32_t>(random());
    request.number = static_cast<int32_t>(random());
    std::string bytes = packed(request, std::string(random() % 300, "/a\n\0x"[random() % 5]));
    if (i % 3 == 0) bytes.resize(random() % bytes.size());
    CHECK(send_message(lab.socket, bytes, std::vector<int>(random() % 4, null)) == 0);
  }
  close(null);
  CHECK(is_open(lab.broker.open_blank(self(), path), path));
}

/// The code of the answer to a message of `bytes` that brings a socket for it.
std::optional<uint32_t> code_of_answer(int broker, const std::string& bytes) {
  int ends[2];
  REQUIRE(make_socket_pair(ends) == 0);
  REQUIRE(send_message(broker, bytes, {ends[1]}) == 0);
  close(ends[1]);
  Message answer;
  const int err = receive_message(ends[0], 0, answer);
  close(ends[0]);
  BrokerAnswer header;
  if (err != 0 || answer.bytes.size() < sizeof header) return std::nullopt;
  std::memcpy(&header, answer.bytes.data(), sizeof header);
  return header.code;
}

TEST_CASE("empty, short, long and unknown messages get an error, and do not end the broker") {
  Lab lab;
  const auto invalid = static_cast<uint32_t>(Errc::invalid_argument);
  REQUIRE(send_message(lab.socket, {}, {}) == 0);
  CHECK(lab.broker.check_admin({0, 0}).error() == Errc::not_permitted);
  CHECK(code_of_answer(lab.socket, {}) == invalid);
  CHECK(code_of_answer(lab.socket, "x") == invalid);
  CHECK(code_of_answer(lab.socket, std::string(sizeof(BrokerRequest) - 1, '\0')) == invalid);
  BrokerRequest request;
  request.job = static_cast<BrokerJob>(77);
  CHECK(code_of_answer(lab.socket, packed(request, "text")) == invalid);
  // Longer than send_message() sends, and more descriptors than it sends: received by nobody.
  const std::string too_long(kMessageBytesMax + 1, 'x');
  CHECK(send(lab.socket, too_long.data(), too_long.size(), 0) ==
        static_cast<ssize_t>(too_long.size()));
  send_descriptors(lab.socket, kMessageDescriptorsMax + 1);
  CHECK(lab.broker.check_admin({0, 0}).error() == Errc::not_permitted);
}

TEST_CASE("without a broker every question is refused") {
  BrokerProcess broker;
  CHECK(broker.check_admin(self()).error() == Errc::not_supported);
  CHECK(!broker.open_blank(self(), "/tmp/x"));
  CHECK(!broker.unmount());
  CHECK(broker.candidates().empty());
}
