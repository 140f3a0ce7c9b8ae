// SPDX-License-Identifier: MIT
// Opening, locking, measuring and recognizing devices.
#include "alloc/device/system_devices.h"
#include "alloc/device/uring_engine.h"

#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "alloc/base/log.h"
#include "alloc/device/file_device.h"
#include "alloc/device/holder.h"
#include "test/support/catch.h"
#include "test/support/scratch_device.h"
#include "test/support/values.h"

namespace moltfs::alloc {
namespace {

using test::kMiB;
using test::LoopDevice;
using test::ScratchDirectory;

struct DeviceTest {
  RealRuntime runtime;
  std::unique_ptr<DeviceOpener> opener = make_system_devices(runtime);
  ScratchDirectory directory;

  DeviceTest() {
    set_log_sink([](LogLevel, const std::string&) {});
  }
  ~DeviceTest() { set_log_sink({}); }

  std::shared_ptr<Device> open(const std::string& path, DeviceOpener::Options options = {}) {
    auto device = opener->open(path, options);
    INFO(path);
    if (device.has_error()) FAIL(device.error().message());
    return device.value();
  }
  Error error_of(const std::string& path, DeviceOpener::Options options = {}) {
    const auto device = opener->open(path, options);
    INFO(path);
    REQUIRE(device.has_error());
    CHECK(device.error().message().starts_with(path + ": "));
    return device.error();
  }
  void put(Device& device, uint64_t offset, std::string_view text) {
    AlignedBuffer block(kBlockSize);
    block.fill_zero();
    std::memcpy(block.data() + offset % kBlockSize, text.data(), text.size());
    const auto written =
        opener->engine().write(device, round_down(offset, kBlockSize), block.span());
    REQUIRE(written.has_value());
  }
  std::optional<std::string> signature(Device& device) {
    const auto found = opener->signature(device);
    if (found.has_error()) FAIL(found.error().message());
    return found.value();
  }
};

TEST_CASE_METHOD(DeviceTest, "an image file opens with its size rounded down to blocks") {
  const std::string path = directory.image("a", 3 * kMiB + 4095);
  const auto device = open(path);
  CHECK(device->path() == path);
  CHECK(device->size_bytes() == 3 * kMiB);
  CHECK((device->sector_size() == 512 || device->sector_size() == 4096));
  CHECK_FALSE(device->read_only());
  CHECK(device->can_discard());
  CHECK(open(directory.image("empty", 0))->size_bytes() == 0);
}

TEST_CASE_METHOD(DeviceTest, "a relative path is made absolute") {
  directory.image("a", kMiB);
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(directory.path());
  const auto device = opener->open("a", {});
  std::filesystem::current_path(before);
  REQUIRE(device.has_value());
  CHECK(std::filesystem::path(device.value()->path()).is_absolute());
  CHECK(std::filesystem::equivalent(device.value()->path(), directory.path() + "/a"));
}

TEST_CASE_METHOD(DeviceTest, "a path that is not a device is refused with its name and kind") {
  const std::string base = directory.path();
  CHECK(error_of(base + "/absent") == Errc::not_found);
  CHECK(error_of(base + "/absent/below") == Errc::not_found);
  CHECK(error_of(base) == Errc::invalid_argument);
  CHECK(error_of(base).message() == base + ": is a directory, not a block device or an image file");
  CHECK(error_of("/dev/null").message().find("a character device") != std::string::npos);
  const std::string pipe = base + "/pipe";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(error_of(pipe).message().find("a pipe") != std::string::npos);  // and does not hang
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string name = base + "/socket";
  REQUIRE(name.size() < sizeof address.sun_path);
  std::memcpy(address.sun_path, name.c_str(), name.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  close(fd);
  CHECK(error_of(name).message().find("a socket") != std::string::npos);
  CHECK(error_of(directory.image("file", 0) + "/below") == Errc::not_a_directory);
  const std::string loop = base + "/link";
  REQUIRE(symlink("link", loop.c_str()) == 0);
  CHECK(error_of(loop).to_errno() > 0);
  REQUIRE(symlink("file", (base + "/good").c_str()) == 0);
  CHECK(open(base + "/good")->path() == base + "/good");
}

TEST_CASE_METHOD(DeviceTest, "the file of a running program is in use") {
  const std::string path = directory.path() + "/program";
  std::filesystem::copy_file("/bin/sleep", path);
  int running[2];  // a pipe that is closed when the program has started
  REQUIRE(pipe2(running, O_CLOEXEC) == 0);
  const pid_t child = fork();
  if (child == 0) {
    execl(path.c_str(), path.c_str(), "60", nullptr);
    _exit(1);
  }
  close(running[1]);
  char byte = 0;
  CHECK(read(running[0], &byte, 1) == 0);
  close(running[0]);
  const auto device = opener->open(path, {});
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  if (device.has_value()) {
    WARN("this kernel lets running programs be written to");
    return;
  }
  CHECK(device.error() == Errc::device_in_use);
}

TEST_CASE_METHOD(DeviceTest, "permissions, as an ordinary user") {
  if (geteuid() != 0) return;  // an ordinary user cannot make a file that is not theirs
  const std::string path = directory.image("a", kMiB);
  const std::string foreign = path + ": Permission denied";
  std::filesystem::permissions(directory.path(), std::filesystem::perms(0755));
  const pid_t child = fork();
  if (child == 0) {
    if (setresuid(65534, 65534, 65534) != 0) _exit(2);
    const auto device = opener->open(path, {});
    _exit(device.has_error() && device.error() == Errc::access_denied &&
                  device.error().message() == foreign
              ? 0
              : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
}

TEST_CASE_METHOD(DeviceTest, "a second open of an image file is refused, also in this process") {
  const std::string path = directory.image("a", kMiB);
  REQUIRE(link(path.c_str(), (directory.path() + "/same").c_str()) == 0);
  auto first = open(path);
  CHECK(error_of(path) == Errc::device_in_use);
  CHECK(error_of(path).message().find("in use") != std::string::npos);
  CHECK(error_of(directory.path() + "/same") == Errc::device_in_use);
  CHECK(error_of(path, {.read_only = true}) == Errc::device_in_use);
  open(path, {.exclusive = false});  // a shared open is allowed, and closing it unlocks nothing
  CHECK(error_of(path) == Errc::device_in_use);

  const pid_t child = fork();
  if (child == 0) {
    first.reset();  // the child's copy: the lock belongs to the open file
    _exit(opener->open(path, {}).has_error() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(status == 0);
  first.reset();
  CHECK(open(path)->size_bytes() == kMiB);
}

TEST_CASE_METHOD(DeviceTest, "readers share an image file and keep writers out") {
  const std::string path = directory.image("a", kMiB);
  const auto one = open(path, {.read_only = true});
  const auto two = open(path, {.read_only = true});
  CHECK(one->read_only());
  CHECK_FALSE(one->can_discard());
  CHECK(error_of(path) == Errc::device_in_use);
  AlignedBuffer block(kBlockSize);
  block.fill_zero();
  CHECK(opener->engine().read(*one, 0, block.span()).has_value());
  const auto written = opener->engine().write(*one, 0, block.span());
  REQUIRE(written.has_error());
  CHECK(written.error() == Errc::device_read_only);
  CHECK(opener->engine().discard(*one, 0, kBlockSize).has_error());
  CHECK(opener->engine().flush(*one).has_value());
  CHECK(one->counters().write_errors == 2);
}

TEST_CASE_METHOD(DeviceTest, "direct I/O is used if the file supports it, otherwise buffered I/O") {
  for (const std::string& parent :
       {directory.path(), std::string("/dev/shm"), std::string("/run")}) {
    const ScratchDirectory below(parent);
    if (below.path().empty()) continue;
    const std::string path = below.image("a", kMiB);
    for (const bool direct : {true, false}) {
      const auto device = open(path, {.direct_io = direct});
      if (!direct) CHECK_FALSE(static_cast<FileDevice&>(*device).direct_io());
      put(*device, 4096, "hello");
      AlignedBuffer block(kBlockSize);
      REQUIRE(opener->engine().read(*device, 4096, block.span()).has_value());
      CHECK(std::memcmp(block.data(), "hello", 6) == 0);
    }
  }
}

TEST_CASE_METHOD(DeviceTest, "a file on a read-only filesystem is read-only") {
  const std::string mount_point = directory.path() + "/mnt";
  std::filesystem::create_directory(mount_point);
  if (mount("none", mount_point.c_str(), "tmpfs", 0, "size=4m") != 0) {
    WARN("cannot mount here (needs root): nothing is tested");
    return;
  }
  const int fd = ::open((mount_point + "/a").c_str(), O_CREAT | O_RDWR, 0600);
  CHECK(ftruncate(fd, kMiB) == 0);
  close(fd);
  CHECK(mount("none", mount_point.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=4m") == 0);
  const auto refused = opener->open(mount_point + "/a", {});
  const auto taken = opener->open(mount_point + "/a", {.read_only = true}).has_value();
  CHECK(umount2(mount_point.c_str(), MNT_DETACH) == 0);
  REQUIRE(refused.has_error());
  CHECK(refused.error() == Errc::device_read_only);
  CHECK(taken);
}

TEST_CASE_METHOD(DeviceTest, "an image file that shrinks while it is open gives errors") {
  const std::string path = directory.image("a", kMiB);
  const auto device = open(path);
  REQUIRE(truncate(path.c_str(), 4096) == 0);
  AlignedBuffer blocks(2 * kBlockSize);
  CHECK(opener->engine().read(*device, 0, blocks.span().first(kBlockSize)).has_value());
  const auto cut = opener->engine().read(*device, 0, blocks.span());
  REQUIRE(cut.has_error());
  CHECK(cut.error() == Errc::io_error);
  CHECK(cut.error().message() == path + ": read of 8192 bytes at offset 0: Input/output error");
  CHECK(device->counters().read_errors == 1);
  CHECK(device->counters().reads == 1);
  CHECK(device->counters().read_bytes == kBlockSize);
}

TEST_CASE_METHOD(DeviceTest, "a full host filesystem is device_full, never no_space") {
  const std::string mount_point = directory.path() + "/mnt";
  std::filesystem::create_directory(mount_point);
  if (mount("none", mount_point.c_str(), "tmpfs", 0, "size=1m") != 0) {
    WARN("cannot mount here (needs root): nothing is tested");
    return;
  }
  const int fd = ::open((mount_point + "/a").c_str(), O_CREAT | O_RDWR, 0600);
  CHECK(ftruncate(fd, 8 * kMiB) == 0);
  close(fd);
  Errc code{};
  std::string message;
  {
    const auto device = opener->open(mount_point + "/a", {});
    REQUIRE(device.has_value());
    AlignedBuffer data(2 * kMiB);
    data.fill_zero();
    const auto written = opener->engine().write(*device.value(), 0, data.span());
    if (written.has_error()) {
      code = written.error().code;
      message = written.error().message();
    }
    CHECK(device.value()->counters().write_errors == 1);
  }
  CHECK(umount2(mount_point.c_str(), MNT_DETACH) == 0);
  CHECK(code == Errc::device_full);
  CHECK(message.find("No space left on device") != std::string::npos);
}

TEST_CASE_METHOD(DeviceTest, "discarding an image file frees its space and leaves zeros") {
  const std::string path = directory.image("a", 4 * kMiB);
  const auto device = open(path);
  AlignedBuffer data(kMiB);
  std::memset(data.data(), 0x55, data.size());
  for (uint64_t at = 0; at < 4 * kMiB; at += kMiB) {
    REQUIRE(opener->engine().write(*device, at, data.span()).has_value());
  }
  REQUIRE(opener->engine().flush(*device).has_value());
  struct stat before, after;
  REQUIRE(stat(path.c_str(), &before) == 0);
  REQUIRE(opener->engine().discard(*device, kMiB, 2 * kMiB).has_value());
  REQUIRE(stat(path.c_str(), &after) == 0);
  CHECK(device->counters().discarded_bytes == 2 * kMiB);
  CHECK(after.st_size == before.st_size);
  if (device->can_discard()) {
    CHECK(after.st_blocks < before.st_blocks);
    REQUIRE(opener->engine().read(*device, kMiB, data.span()).has_value());
    CHECK(data.span()[12345] == std::byte{0});
  }
  REQUIRE(opener->engine().read(*device, 3 * kMiB, data.span()).has_value());
  CHECK(data.span()[12345] == std::byte{0x55});
}

TEST_CASE_METHOD(DeviceTest, "block devices: size, sectors, exclusion, discard, write protection") {
  for (const uint32_t sector : {512u, 4096u}) {
    const std::string image = directory.image("image", 8 * kMiB + 512 * 7);
    const auto loop = LoopDevice::attach(image, sector);
    REQUIRE_LOOP(loop);
    auto device = open(loop->path());
    CHECK(device->sector_size() == sector);
    CHECK(device->size_bytes() == 8 * kMiB);
    CHECK(static_cast<FileDevice&>(*device).is_block_device());
    CHECK(static_cast<FileDevice&>(*device).direct_io());
    CHECK(error_of(loop->path()) == Errc::device_in_use);
    CHECK(error_of(loop->path(), {.read_only = true}) == Errc::device_in_use);
    open(loop->path(), {.read_only = true, .exclusive = false});
    put(*device, kMiB, "hello");
    REQUIRE(opener->engine().flush(*device).has_value());
    REQUIRE(opener->engine().discard(*device, kMiB, kMiB).has_value());
    if (device->can_discard()) {
      AlignedBuffer block(kBlockSize);
      REQUIRE(opener->engine().read(*device, kMiB, block.span()).has_value());
      CHECK(block.span()[0] == std::byte{0});
    }
    device.reset();
    CHECK(open(loop->path())->size_bytes() == 8 * kMiB);
  }
  const auto loop = LoopDevice::attach(directory.image("image", kMiB), 512, true);
  REQUIRE_LOOP(loop);
  CHECK(error_of(loop->path()) == Errc::device_read_only);
  CHECK(open(loop->path(), {.read_only = true})->read_only());
}

TEST_CASE_METHOD(DeviceTest,
                 "a mounted block device is in use, and the error says where it is mounted") {
  const auto loop = LoopDevice::attach(directory.image("image", 8 * kMiB));
  REQUIRE_LOOP(loop);
  const std::string mkfs = "mkfs.ext4 -q " + loop->path() + " >/dev/null 2>&1";
  if (std::system(mkfs.c_str()) != 0) {
    WARN("no mkfs.ext4 here: nothing is tested");
    return;
  }
  CHECK(signature(*open(loop->path())) == "ext4");
  const std::string mount_point = directory.path() + "/a mount";
  std::filesystem::create_directory(mount_point);
  REQUIRE(mount(loop->path().c_str(), mount_point.c_str(), "ext4", 0, nullptr) == 0);
  const auto refused = opener->open(loop->path(), {});
  CHECK(umount(mount_point.c_str()) == 0);
  REQUIRE(refused.has_error());
  CHECK(refused.error() == Errc::device_in_use);
  CHECK(refused.error().message() == loop->path() + ": is in use: mounted on " + mount_point);
}

TEST_CASE_METHOD(DeviceTest,
                 "the mount point of a device is found by number, that of an image by source") {
  const std::string image = directory.image("an image", kMiB);
  const std::string other = directory.image("other", kMiB);
  const std::string link = directory.path() + "/link";
  REQUIRE(::link(image.c_str(), link.c_str()) == 0);
  std::string escaped = image;
  escaped.replace(escaped.find(' '), 1, "\\040");
  const auto mounts = parse_mountinfo(
      "22 1 0:21 / /proc rw - proc proc rw\n"
      "\n"
      "garbage\n"
      "36 35 98:0 /mnt1 /mnt/a\\040b\\134 rw,noatime master:1 - ext3 /dev/root rw\n"
      "37 35 98:1 / /mnt/c rw - ext4 /dev/none rw\n"
      "38 35 0:99 / /mnt/d rw - fuse.moltfs " +
      escaped + " rw\n");
  const auto block = [](unsigned minor) {
    Identity what;
    what.layers.resize(1);
    what.layers[0].id = {true, makedev(98, minor), 0};
    return what;
  };
  CHECK(mount_point_in(mounts, block(0)) == "/mnt/a b\\");
  CHECK(mount_point_in(mounts, block(1)) == "/mnt/c");
  CHECK(mount_point_in(mounts, block(2)).empty());
  CHECK(mount_point_in({}, block(2)).empty());
  CHECK(mount_point_in(mounts, identify(image).value()) == "/mnt/d");
  CHECK(mount_point_in(mounts, identify(link).value()) == "/mnt/d");
  CHECK(mount_point_in(mounts, identify(other).value()).empty());
}

TEST_CASE_METHOD(DeviceTest, "signatures: none, ours, others', damaged ones") {
  const auto device = open(directory.image("a", 64 * kMiB));
  CHECK(signature(*device) == std::nullopt);
  CHECK(signature(*open(directory.image("tiny", 4096))) == std::nullopt);
  CHECK(signature(*open(directory.image("empty", 0))) == std::nullopt);

  AlignedBuffer block(kBlockSize);  // a DOS partition table with one partition
  block.fill_zero();
  const unsigned char entry[16] = {0, 0, 2, 0, 0x83, 0, 3, 0, 0, 8, 0, 0, 0, 0x40, 0, 0};
  std::memcpy(block.data() + 446, entry, sizeof entry);
  block.span()[510] = std::byte{0x55};
  block.span()[511] = std::byte{0xaa};
  REQUIRE(opener->engine().write(*device, 0, block.span()).has_value());
  CHECK(signature(*device) == "dos");

  put(*device, kSignatureOffset, kSignature);
  CHECK(signature(*device) == "moltfs");
  put(*device, kSignatureOffset, std::string_view("MOLTFS\0\2", 8));
  CHECK(signature(*device) == "dos");
  put(*device, 0, "");
  CHECK(signature(*device) == std::nullopt);
}

TEST_CASE_METHOD(DeviceTest, "a signature with a wrong checksum counts") {
  const auto device = open(directory.image("a", 64 * kMiB));
  // The label of an LVM volume: magic, sector 1, a checksum that is wrong, offset 32, type.
  put(*device, 512, std::string_view("LABELONE\1\0\0\0\0\0\0\0bad!\x20\0\0\0LVM2 001", 32));
  CHECK(signature(*device) == "LVM2_member");
}

TEST_CASE_METHOD(DeviceTest, "filesystems are recognized by name") {
  const std::string path = directory.image("a", 64 * kMiB);
  if (std::system(("mkfs.ext4 -q " + path + " >/dev/null 2>&1").c_str()) != 0) {
    WARN("no mkfs.ext4 here: nothing is tested");
    return;
  }
  CHECK(signature(*open(path)) == "ext4");
}

TEST_CASE_METHOD(DeviceTest, "candidates are block devices, including loop devices in use") {
  const auto loop = LoopDevice::attach(directory.image("image", kMiB));
  const auto paths = opener->candidates();
  for (const auto& path : paths) {
    struct stat status;
    INFO(path);
    CHECK((stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode)));
  }
  REQUIRE_LOOP(loop);
  CHECK(std::count(paths.begin(), paths.end(), loop->path()) == 1);
}

TEST_CASE("the environment chooses the engine, and the log says which it is") {
  RealRuntime runtime;
  std::vector<std::string> lines;
  set_log_sink([&](LogLevel, const std::string& line) { lines.push_back(line); });
  setenv("MOLTFS_IO_ENGINE", "threads", 1);
  CHECK(make_system_devices(runtime)->engine().name() == "threads");
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].find("threads") != std::string::npos);
  setenv("MOLTFS_IO_ENGINE", "io_uring", 1);
  const bool has_uring = make_uring_engine() != nullptr;
  CHECK(make_system_devices(runtime)->engine().name() == (has_uring ? "io_uring" : "threads"));
  setenv("MOLTFS_IO_ENGINE", "steam", 1);
  make_system_devices(runtime)->engine();
  CHECK(lines.size() == 4);
  unsetenv("MOLTFS_IO_ENGINE");
  CHECK(make_system_devices(runtime)->engine().name() == (has_uring ? "io_uring" : "threads"));
  set_log_sink({});
}

}  // namespace
}  // namespace moltfs::alloc
