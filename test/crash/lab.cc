// SPDX-License-Identifier: MIT
// What the tests of crashes and of failing I/O share.
#include "test/crash/lab.h"

#include "alloc/base/buffer.h"
#include "fs/check/check.h"

namespace moltfs::crash {

std::string in_world(const Images& images, uint64_t seed, const std::function<void(World&)>& body) {
  auto world = std::make_unique<World>(seed);
  for (const auto& image : images) {
    auto& disk = world->devices.add(image.name, kDiskBytes);
    disk.durable = disk.current = image.bytes;
  }
  try {
    world->scheduler.run([&] { body(*world); });
  } catch (const std::exception& e) {
    // In a world that ended in the middle, nothing can be joined or closed any more.
    (void)world.release();
    return e.what();
  }
  return {};
}

Image image_of(World& world, const std::string& disk, bool durable) {
  const auto& from = world.devices.disk(disk);
  return {disk, durable ? from.durable : from.current};
}

fs::Mount::Options mount_options() {
  fs::Mount::Options options;
  options.cache_bytes = 4 << 20;
  options.commit_interval = Nanoseconds(0);  // the scenario decides when to commit
  options.policy.atime = fs::Policy::Atime::never;
  options.replace.window_bytes = 64 << 10;
  options.replace.windows_in_flight = 2;
  options.replace.commit_interval = std::chrono::milliseconds(1);
  options.replace.retry_pauses = {std::chrono::milliseconds(1), std::chrono::milliseconds(2)};
  return options;
}

std::unique_ptr<fs::Mount> open(World& world, const std::string& disk) {
  return must(fs::Mount::open(world.runtime, world.devices, {disk}, mount_options()),
              "mount " + disk);
}

namespace {

std::string content_of(fs::Filesystem& filesystem, const fs::Attributes& file,
                       const std::string& path) {
  AlignedBuffer buffer(round_up(file.size + 1, kBlockSize));
  const size_t got = must(filesystem.read(file.ino, 0, buffer.span()), "read " + path);
  if (got != file.size) fail("{}: short read", path);
  return {reinterpret_cast<const char*>(buffer.data()), got};
}

sim::FileState file_state(fs::Filesystem& filesystem, InodeNumber ino, const std::string& path,
                          bool* directory) {
  const auto attributes = must(filesystem.attributes(ino), "attributes of " + path);
  sim::FileState state;
  const uint32_t type = attributes.mode & 0170000;
  *directory = type == 0040000;
  state.xattrs["mode"] = fmt::format("{:o}", attributes.mode);
  std::string content;
  if (type == 0120000) content = must(filesystem.read_symlink(ino), "read_symlink " + path);
  if (type == 0100000) {
    content = content_of(filesystem, attributes, path);
    state.xattrs["links"] = std::to_string(attributes.links);
  }
  state.content = std::make_shared<const std::string>(std::move(content));
  if (type == 0120000) return state;
  for (const auto& name : must(filesystem.list_xattrs(ino), "xattrs of " + path)) {
    const auto value = must(filesystem.get_xattr(ino, name), "xattr of " + path);
    state.xattrs[name] = {reinterpret_cast<const char*>(value.data()), value.size()};
  }
  return state;
}

void add_tree(fs::Filesystem& filesystem, InodeNumber directory, const std::string& prefix,
              DirState& into) {
  std::vector<std::pair<std::string, InodeNumber>> entries;
  must(filesystem.read_directory(directory, 0, false,
                                 [&](const fs::DirEntry& entry, const fs::Attributes*) {
                                   if (entry.name != "." && entry.name != "..") {
                                     entries.emplace_back(entry.name, entry.ino);
                                   }
                                   return true;
                                 }),
       "read_directory /" + prefix);
  for (const auto& [name, ino] : entries) {
    const std::string path = prefix + name;
    into.names[path] = ino.value;
    bool is_directory = false;
    into.files[ino.value] = file_state(filesystem, ino, path, &is_directory);
    if (is_directory) add_tree(filesystem, ino, path + "/", into);
  }
}

}  // namespace

DirState picture(fs::Filesystem& filesystem) {
  DirState state;
  add_tree(filesystem, fs::kRootInode, "", state);
  return state;
}

void require_clean(World& world, const std::string& disk) {
  fs::CheckOptions options;
  options.data = true;
  options.cache_bytes = 4 << 20;
  const auto report =
      must(fs::check(world.runtime, world.devices, {disk}, options), "check " + disk);
  if (report.clean()) return;
  const auto& first = report.findings.front();
  fail("check {}: {} findings, first: {}: {}", disk, report.finding_count, first.where, first.what);
}

void require_usable(fs::Mount& mount) {
  auto& filesystem = mount.filesystem();
  const auto made =
      must(filesystem.make(fs::kRootInode, "used again", 0100644, 0, {}), "make afterwards");
  AlignedBuffer bytes(5 * kBlockSize);
  std::fill(bytes.span().begin(), bytes.span().end(), std::byte{0x5a});
  must(filesystem.write(made.ino, 0, bytes.span(), {}), "write afterwards");
  filesystem.forget(made.ino, 1);
  must(filesystem.sync(), "sync afterwards");
  must(filesystem.unlink(fs::kRootInode, "used again"), "unlink afterwards");
}

DirState recover_alone(World& world, bool use) {
  require_clean(world, "a");
  auto mount = open(world, "a");
  DirState found = picture(mount->filesystem());
  if (use) require_usable(*mount);
  must(mount->close(), "close");
  mount.reset();
  if (use) require_clean(world, "a");
  return found;
}

std::string member_of(fs::Mount& mount) {
  const auto device = mount.volume().device(DeviceId(1));
  if (device == nullptr) fail("no devid 1");
  return device->path();
}

namespace {

/// Tries until the replace runs. The target is healthy.
void set_going(replace::Engine& replace, const std::string& target) {
  using replace::State;
  const State state = replace.status().state;
  if (replace::in_progress(state)) return;
  if (state == State::suspended) {
    if (replace.resume()) return;
    // A swap that failed on the target and could not be taken back may have wiped it. Then the user
    // cancels and starts again.
    must(replace.cancel(), "cancel");
  }
  must(replace.start({"1", target, true}), "start again");
}

}  // namespace

void require_target_alone(World& world, std::unique_ptr<fs::Mount> mount, const std::string& source,
                          const std::string& target, const DirState& expected) {
  auto& replace = mount->replace();
  if (member_of(*mount) != target) {
    set_going(replace, target);
    const auto deadline = world.runtime.now() + std::chrono::hours(1);
    const auto status = replace.wait([&] { return world.runtime.now() > deadline; });
    if (status.state != replace::State::finished) {
      fail("the replace does not finish: {} ({})", replace::name_of(status.state), status.reason);
    }
  }
  must(mount->close(), "close");
  mount.reset();
  world.devices.remove(source);
  require_clean(world, target);
  auto alone = open(world, target);
  std::string why;
  if (!sim::same(expected, picture(alone->filesystem()), &why)) fail("the target alone: {}", why);
  must(alone->close(), "close");
}

}  // namespace moltfs::crash
