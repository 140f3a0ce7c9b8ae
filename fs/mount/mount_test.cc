// SPDX-License-Identifier: MIT
// Tests of mkfs and of mounting, syncing and unmounting a whole volume.
#include "fs/mount/mount.h"

#include <sys/stat.h>

#include <chrono>

#include "fs/filesystem_test_util.h"

namespace moltfs::fs {
namespace {

using test::code_of;
using test::must;

constexpr Caller kRoot{};
constexpr const char* kDevice = "mem:a";

struct MountableVolume : test::TestDisks {
  explicit MountableVolume(uint64_t size_bytes = 128ull << 20)
      : TestDisks({{kDevice, size_bytes}}) {
    must(make_filesystem(runtime, devices, {kDevice}, {}));
  }
  std::unique_ptr<Mount> mount(const Mount::Options& options = {}) {
    return must(Mount::open(runtime, devices, {kDevice}, options));
  }
};

TEST_CASE("files are there after unmounting and mounting again") {
  MountableVolume machine;
  {
    auto mount = machine.mount();
    must(mount->filesystem().make(kRootInode, "file", S_IFREG | 0644, 0, kRoot));
    must(mount->close());
  }
  auto mount = machine.mount();
  CHECK(mount->filesystem().lookup(kRootInode, "file"));
  CHECK(mount->replace().status().state == replace::State::none);
}

TEST_CASE("after abandon() synced files are there and others are not") {
  MountableVolume machine;
  Mount::Options options;
  options.commit_interval = Nanoseconds::zero();
  {
    auto mount = machine.mount(options);
    must(mount->filesystem().make(kRootInode, "synced", S_IFREG | 0644, 0, kRoot));
    must(mount->filesystem().sync());
    must(mount->filesystem().make(kRootInode, "lost", S_IFREG | 0644, 0, kRoot));
    mount->abandon();
  }
  auto mount = machine.mount(options);
  CHECK(mount->filesystem().lookup(kRootInode, "synced"));
  CHECK(code_of(mount->filesystem().lookup(kRootInode, "lost")) == Errc::not_found);
}

TEST_CASE("a mount records the new path of a device that has moved") {
  MountableVolume machine;
  machine.devices.insert("mem:moved", machine.devices.disk(kDevice).clone());
  auto mount = must(Mount::open(machine.runtime, machine.devices, {"mem:moved"}, {}));
  CHECK(mount->volume().superblock().devices.front().path == "mem:moved");
  mount->abandon();
  mount.reset();
  mount = must(Mount::open(machine.runtime, machine.devices, {"mem:moved"}, {}));
  CHECK(mount->volume().superblock().devices.front().path == "mem:moved");
}

TEST_CASE("the commit timer commits") {
  MountableVolume machine;
  Mount::Options options;
  options.commit_interval = std::chrono::milliseconds(20);
  auto mount = machine.mount(options);
  const Generation before = mount->transactions().durable();
  must(mount->filesystem().make(kRootInode, "file", S_IFREG | 0644, 0, kRoot));
  for (int i = 0; i < 500 && mount->transactions().has_changes(); ++i) {
    machine.runtime.sleep(std::chrono::milliseconds(10));
  }
  CHECK_FALSE(mount->transactions().has_changes());
  for (int i = 0; i < 500 && mount->transactions().durable() == before; ++i) {
    machine.runtime.sleep(std::chrono::milliseconds(10));
  }
  CHECK(mount->transactions().durable() > before);
  mount->abandon();
  mount.reset();
  mount = machine.mount(options);
  CHECK(mount->filesystem().lookup(kRootInode, "file"));
}

TEST_CASE("a read-only mount writes nothing") {
  MountableVolume machine;
  {
    auto mount = machine.mount();
    Filesystem& fs = mount->filesystem();
    must(fs.make(kRootInode, "file", S_IFREG | 0644, 0, kRoot));
    must(fs.make(kRootInode, "orphan", S_IFREG | 0644, 0, kRoot));
    must(fs.unlink(kRootInode, "orphan"));
    must(mount->close());
  }
  const auto before = machine.devices.disk(kDevice).clone();
  Mount::Options options;
  options.read_only = true;
  options.commit_interval = std::chrono::milliseconds(1);
  {
    auto mount = machine.mount(options);
    Filesystem& fs = mount->filesystem();
    CHECK(fs.lookup(kRootInode, "file"));
    CHECK(code_of(fs.make(kRootInode, "x", S_IFREG | 0644, 0, kRoot)) == Errc::read_only);
    CHECK(fs.read_directory(kRootInode, 0, false, [](const auto&, auto*) { return true; }));
    must(fs.sync());
    machine.runtime.sleep(std::chrono::milliseconds(20));
    must(mount->close());
  }
  CHECK(machine.devices.disk(kDevice).same_content(*before));
}

TEST_CASE("each open file is told that data is lost, and a sync takes it from nobody") {
  MountableVolume machine;
  Mount::Options options;
  options.commit_interval = Nanoseconds::zero();
  auto mount = machine.mount(options);
  Filesystem& fs = mount->filesystem();
  const InodeNumber file = must(fs.make(kRootInode, "file", S_IFREG | 0644, 0, kRoot)).ino;
  const InodeNumber other = must(fs.make(kRootInode, "other", S_IFREG | 0644, 0, kRoot)).ino;
  AlignedBuffer bytes(8192);
  must(fs.write(file, 0, bytes.span(), {}));
  must(fs.commit());
  auto& opens = mount->volume().write_failures();
  const auto first = opens.opened(), second = opens.opened(), elsewhere = opens.opened();
  must(fs.write(file, 0, bytes.span(), {}));  // into the write buffer
  const auto map = mount->volume().mapper().current();
  machine.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
    if (request.op != alloc::IoOp::write) return ok();
    for (const auto& extent : alloc::device_extents(map->chunks(), DeviceId(1))) {
      const bool is_data = extent.chunk->kind == alloc::ChunkKind::data;
      const PhysicalRange range{PhysicalOffset(request.offset), request.length};
      if (is_data && extent.range.overlaps(range)) return Errc::io_error;
    }
    return ok();
  });
  CHECK(fs.sync(other, elsewhere));
  CHECK(code_of(fs.commit()) == Errc::io_error);
  CHECK(fs.commit());
  CHECK(code_of(fs.sync(file, first)) == Errc::io_error);
  CHECK(code_of(fs.sync(file, second)) == Errc::io_error);
  CHECK(fs.sync(file, first));
  CHECK(fs.sync(file, opens.opened()));
  machine.devices.set_hook({});
  must(mount->close());
}

TEST_CASE("a failed commit is reported at unmount, and older commits are kept") {
  MountableVolume machine;
  Mount::Options options;
  options.commit_interval = Nanoseconds::zero();
  {
    auto mount = machine.mount(options);
    must(mount->filesystem().make(kRootInode, "old", S_IFREG | 0644, 0, kRoot));
    must(mount->filesystem().sync());
    must(mount->filesystem().make(kRootInode, "new", S_IFREG | 0644, 0, kRoot));
    machine.devices.set_hook([](const alloc::IoRequest& request) -> Result<void> {
      if (request.op == alloc::IoOp::write) return Errc::io_error;
      return ok();
    });
    CHECK(code_of(mount->filesystem().sync()) == Errc::io_error);
    CHECK(code_of(mount->filesystem().make(kRootInode, "x", S_IFREG, 0, kRoot)) == Errc::read_only);
    CHECK(mount->filesystem().lookup(kRootInode, "new"));
    CHECK(code_of(mount->close()) == Errc::io_error);
  }
  machine.devices.set_hook({});
  auto mount = machine.mount(options);
  CHECK(mount->filesystem().lookup(kRootInode, "old"));
  CHECK(code_of(mount->filesystem().lookup(kRootInode, "new")) == Errc::not_found);
}

TEST_CASE("mkfs refuses foreign signatures, wrong paths, small devices and devices in use") {
  MountableVolume machine;
  const auto make = [&](const std::vector<std::string>& paths, bool force) {
    MkfsOptions options;
    options.force = force;
    return make_filesystem(machine.runtime, machine.devices, paths, options);
  };
  const auto before = machine.devices.disk(kDevice).clone();
  auto refused = make({kDevice}, false);
  REQUIRE(code_of(refused) == Errc::foreign_signature);
  CHECK(refused.error().message() == "mem:a holds moltfs; --force overwrites it");
  CHECK(code_of(make({}, false)) == Errc::invalid_argument);
  CHECK(code_of(make({kDevice, kDevice}, true)) == Errc::invalid_argument);
  CHECK(code_of(make({"mem:none"}, true)) == Errc::not_found);
  machine.devices.add("mem:small", 8 << 20);
  CHECK(code_of(make({"mem:small"}, true)) == Errc::device_too_small);
  CHECK(machine.devices.disk(kDevice).same_content(*before));
  {
    auto mount = machine.mount();
    CHECK(code_of(make({kDevice}, true)) == Errc::device_in_use);
    must(mount->filesystem().make(kRootInode, "file", S_IFREG | 0644, 0, kRoot));
  }
  must(make({kDevice}, true));
  auto mount = machine.mount();
  CHECK(code_of(mount->filesystem().lookup(kRootInode, "file")) == Errc::not_found);
}

TEST_CASE("mkfs sets owner and mode of the root, and the label") {
  MountableVolume machine;
  MkfsOptions options;
  options.force = true;
  options.uid = 1000;
  options.gid = 1001;
  options.volume.label = "shell";
  must(make_filesystem(machine.runtime, machine.devices, {kDevice}, options));
  auto mount = machine.mount();
  const Attributes root = must(mount->filesystem().attributes(kRootInode));
  CHECK(root.mode == (S_IFDIR | 0755u));
  CHECK(root.uid == 1000);
  CHECK(root.gid == 1001);
  CHECK(root.links == 2);
  CHECK(mount->volume().superblock().label == "shell");
  CHECK(mount->filesystem().path_of(kRootInode) == "/");
  CHECK(mount->filesystem().path_of(InodeNumber{777}) == "<inode 777>");
}

TEST_CASE("making and mounting 16 TiB is quick and writes little") {
  RealRuntime clock;
  const Nanoseconds start = clock.now();
  MountableVolume machine(16ull << 40);
  auto mount = machine.mount();
  must(mount->filesystem().make(kRootInode, "file", S_IFREG | 0644, 0, kRoot));
  must(mount->close());
  const Nanoseconds taken = clock.now() - start;
  CHECK(taken < std::chrono::seconds(5));  // 1 s on an idle machine
  CHECK(machine.devices.disk(kDevice).stored_bytes() < 64u << 20);
}

}  // namespace
}  // namespace moltfs::fs
