// SPDX-License-Identifier: MIT
// Small volumes: one device, a mirror, stripes, three and four copies, with an fsync log, and each
// state of a replace.
#include "test/fuzz/small_images.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <functional>

#include "alloc/base/codec.h"
#include "fs/inode/acl.h"
#include "fs/mount/mount.h"
#include "test/fuzz/acl_value.h"
#include "test/fuzz/base_images.h"
#include "test/fuzz/targets.h"
#include "test/sim/scheduler.h"

namespace moltfs::fuzz {
namespace {

using namespace moltfs::fs;

template <class T>
T must(Result<T> result) {
  if (!result) fail("a small image cannot be made: " + result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

/// Makes one image, on a simulated machine.
class Maker {
 public:
  Maker(sim::SimRuntime& runtime, const std::vector<uint64_t>& sizes_mib)
      : runtime_(runtime), count_(sizes_mib.size()) {
    for (size_t i = 0; i < count_; ++i) devices.add(kMemberPaths[i], sizes_mib[i] << 20);
  }

  void mkfs(alloc::Profile data, alloc::Profile metadata, size_t members) {
    MkfsOptions options;
    options.volume.label = "small";
    options.volume.chunk_size = 1 << 20;
    options.volume.data_profile = data;
    options.volume.metadata_profile = metadata;
    const std::vector<std::string> paths(kMemberPaths.data(), kMemberPaths.data() + members);
    must(make_filesystem(runtime_, devices, paths, options));
  }

  Mount& mount() {
    Mount::Options options;
    options.cache_bytes = 4 << 20;
    options.commit_interval = Nanoseconds::zero();
    mount_ = must(Mount::open(runtime_, devices, {kMemberPaths[0]}, options));
    return *mount_;
  }
  void unmount() {
    must(mount_->close());
    mount_.reset();
  }
  void cut_power() {
    mount_->abandon();
    mount_.reset();
  }

  /// Files with every kind of item.
  void fill();

  std::vector<std::shared_ptr<test::MemoryDisk>> disks() {
    std::vector<std::shared_ptr<test::MemoryDisk>> all;
    for (size_t i = 0; i < count_; ++i) all.push_back(devices.disk(kMemberPaths[i]).clone());
    return all;
  }

  test::MemoryDevices devices;

 private:
  InodeNumber make(InodeNumber parent, const std::string& name, uint32_t mode) {
    return must(fs().make(parent, name, mode, (mode & S_IFMT) == S_IFCHR ? 0x100000003 : 0, {}))
        .ino;
  }
  void write(InodeNumber ino, uint64_t offset, size_t length) {
    std::string text;
    while (text.size() < length) text += fmt::format("inode {} byte {}\n", ino.value, text.size());
    must(fs().write(ino, offset, std::as_bytes(std::span(text.data(), length)), {}));
  }
  void attribute(InodeNumber ino, std::string_view name, size_t length) {
    const ByteVector value(length, std::byte{'v'});
    must(fs().set_xattr(ino, name, value, XattrMode::any));
  }
  Filesystem& fs() { return mount_->filesystem(); }

  sim::SimRuntime& runtime_;
  const size_t count_;
  std::unique_ptr<Mount> mount_;
};

void Maker::fill() {
  const InodeNumber d = make(kRootInode, "d", S_IFDIR | 0755);
  const InodeNumber e = make(d, "e", S_IFDIR | 0750), f = make(e, "f", S_IFDIR | 02770);
  const InodeNumber many = make(kRootInode, "many", S_IFDIR | 0755);
  for (unsigned i = 0; i < 90; ++i) {
    const InodeNumber file = make(many, fmt::format("file {}", i), S_IFREG | 0644);
    if (i % 3 != 0) write(file, 0, 20 * i + 1);
  }
  const InodeNumber extents = make(d, "extents", S_IFREG | 0644);
  write(extents, 0, 150'000);
  for (uint64_t at = 4096; at < 60'000; at += 16384) write(extents, at, 100);
  must(fs().allocate(extents, AllocateMode::allocate, 400'000, 50'000, true));
  must(fs().allocate(extents, AllocateMode::punch_hole, 100'000, 20'000, true));
  const InodeNumber other = make(f, "other", S_IFREG | 04755);
  write(other, 8192, 20'000);
  must(fs().link(other, d, "linked"));
  must(fs().symlink(d, "short", "e/f", {}));
  must(fs().symlink(d, "long", std::string(4090, 'x'), {}));
  make(d, "pipe", S_IFIFO | 0600);
  make(d, "device", S_IFCHR | 0600);
  attribute(extents, "user.long", 20'000);
  attribute(extents, "trusted.short", 12);
  must(fs().set_xattr(other, kAccessAclName, acl_value(), XattrMode::any));
  must(fs().set_xattr(e, kDefaultAclName, acl_value(), XattrMode::any));
  must(fs().set_flags(make(d, "immutable", S_IFREG | 0600), kInodeImmutable | kInodeNoDump));
  // No name, but used until the power goes: an orphan.
  write(must(fs().make_unnamed(kRootInode, S_IFREG | 0600, {})).ino, 0, 10'000);
  must(fs().commit());
}

using Body = std::function<void(Maker&, sim::SimRuntime&)>;

SmallImage make_image(const std::string& name, uint64_t seed, const std::vector<uint64_t>& sizes,
                      const Body& body) {
  SmallImage image{name, {}};
  sim::Scheduler scheduler(seed);
  sim::SimRuntime runtime(scheduler);
  scheduler.run([&] {
    Maker maker(runtime, sizes);
    body(maker, runtime);
    if (image.disks.empty()) image.disks = maker.disks();
  });
  return image;
}

SmallImage plain(const std::string& name, const std::vector<uint64_t>& sizes, alloc::Profile data,
                 alloc::Profile metadata) {
  return make_image(name, 1, sizes, [&](Maker& maker, sim::SimRuntime&) {
    maker.mkfs(data, metadata, sizes.size());
    maker.mount();
    maker.fill();
    maker.cut_power();
  });
}

SmallImage with_log() {
  return make_image("small_log", 2, {64}, [](Maker& maker, sim::SimRuntime&) {
    maker.mkfs(alloc::Profile::single, alloc::Profile::dup, 1);
    Filesystem& fs = maker.mount().filesystem();
    maker.fill();
    AlignedBuffer data(40'000);
    data.fill_zero();
    for (unsigned i = 0; i < 4; ++i) {
      const auto file =
          must(fs.make(kRootInode, fmt::format("synced {}", i), S_IFREG | 0644, 0, {}));
      must(fs.write(file.ino, 0, data.span().first(10'000 * i + 10), {}));
      must(fs.sync(file.ino));
    }
    must(fs.unlink(kRootInode, "synced 1"));
    must(fs.sync());
    maker.cut_power();
  });
}

/// A replace of mem:a by mem:b, with `body` once it has begun. Each request to the target takes a
/// millisecond.
SmallImage with_replace(const std::string& name,
                        const std::function<void(Maker&, Mount&, sim::SimRuntime&)>& body) {
  return make_image(name, 3, {64, 64}, [&](Maker& maker, sim::SimRuntime& runtime) {
    maker.mkfs(alloc::Profile::single, alloc::Profile::dup, 1);
    Mount& mount = maker.mount();
    maker.fill();
    maker.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
      if (request.device->path() == kMemberPaths[1]) runtime.sleep(std::chrono::milliseconds(1));
      return ok();
    });
    must(mount.replace().start({"1", kMemberPaths[1], false}));
    body(maker, mount, runtime);
    maker.devices.set_hook({});
  });
}

SmallImage copying() {
  return with_replace("small_copying", [](Maker& maker, Mount& mount, sim::SimRuntime& runtime) {
    runtime.sleep(std::chrono::milliseconds(4));
    must(mount.filesystem().make(kRootInode, "meanwhile", S_IFREG | 0644, 0, {}));
    must(mount.filesystem().commit());
    maker.cut_power();
  });
}

SmallImage suspended() {
  return with_replace("small_suspended", [](Maker& maker, Mount& mount, sim::SimRuntime&) {
    maker.devices.set_hook([](const alloc::IoRequest& request) -> Result<void> {
      if (request.device->path() == kMemberPaths[1]) return Error(Errc::io_error);
      return ok();
    });
    (void)mount.replace().wait([] { return false; });
    must(mount.filesystem().make(kRootInode, "meanwhile", S_IFREG | 0644, 0, {}));
    must(mount.filesystem().commit());
    maker.unmount();
  });
}

SmallImage finished() {
  return with_replace("small_finished", [](Maker& maker, Mount& mount, sim::SimRuntime&) {
    (void)mount.replace().wait([] { return false; });
    must(mount.filesystem().make(kRootInode, "afterwards", S_IFREG | 0644, 0, {}));
    maker.unmount();
  });
}

/// States of the disks at the flushes in which a swap is announced, the first and the last one.
std::vector<SmallImage> swapping() {
  std::vector<SmallImage> images;
  with_replace("", [&](Maker& maker, Mount& mount, sim::SimRuntime&) {
    maker.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
      if (request.op != alloc::IoOp::flush) return ok();
      SmallImage now{"small_announced", maker.disks()};
      const auto raw = RawImage::parse(now.disks);
      if (!raw || raw->superblocks()[raw->leading_disk()].successions.empty()) return ok();
      if (images.size() == 2) images.pop_back();
      if (images.size() == 1) now.name = "small_swapped";
      images.push_back(std::move(now));
      return ok();
    });
    (void)mount.replace().wait([] { return false; });
    maker.cut_power();
  });
  if (images.size() != 2) fail("no state of a swap was found");
  return images;
}

}  // namespace

std::vector<SmallImage> make_small_images() {
  using alloc::Profile;
  std::vector<SmallImage> images;
  images.push_back(plain("small", {64}, Profile::single, Profile::dup));
  images.push_back(plain("small_mirror", {64, 64}, Profile::raid1, Profile::raid1));
  images.push_back(plain("small_stripes", {32, 32, 32, 32}, Profile::raid0, Profile::raid10));
  images.push_back(plain("small_copies", {32, 32, 32, 32}, Profile::raid1c3, Profile::raid1c4));
  images.push_back(with_log());
  images.push_back(copying());
  images.push_back(suspended());
  images.push_back(finished());
  for (SmallImage& image : swapping()) images.push_back(std::move(image));
  return images;
}

}  // namespace moltfs::fuzz
