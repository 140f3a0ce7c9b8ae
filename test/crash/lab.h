// SPDX-License-Identifier: MIT
// What the tests of crashes and of failing I/O share: disk images, a small world around them, and
// checks of what is on them.
//
// An Image is a disk at rest. in_world() puts images into a fresh simulated world (with a scheduler
// of its own, so it can be repeated), runs a body in it, and returns what went wrong: nothing, what
// the body threw, or a deadlock.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fs/mount/mount.h"
#include "test/sim/oracle.h"
#include "test/sim/scheduler.h"
#include "test/sim/sim_disk.h"

namespace moltfs::crash {

using sim::DirState;

inline constexpr uint64_t kDiskBytes = 64 << 20;

struct Image {
  std::string name;
  sim::PageImage bytes;
};
using Images = std::vector<Image>;

struct World {
  explicit World(uint64_t seed) : scheduler(seed), runtime(scheduler), devices(scheduler) {}
  sim::Scheduler scheduler;
  sim::SimRuntime runtime;
  sim::SimDevices devices;
};

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(fmt::format(format, std::forward<Args>(args)...));
}

template <class T>
T must(Result<T> result, std::string_view what) {
  if (!result) fail("{}: {}", what, result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

/// Runs `body` as the first task of a world with these disks. Returns what went wrong; empty if
/// nothing did.
std::string in_world(const Images& images, uint64_t seed, const std::function<void(World&)>& body);

/// What the disk holds now; if `durable`, what a cut leaves for sure.
Image image_of(World& world, const std::string& disk, bool durable = false);

fs::Mount::Options mount_options();
std::unique_ptr<fs::Mount> open(World& world, const std::string& disk);

/// The whole tree, with paths from the root as names. Directories and symbolic links are files with
/// an xattr that says so.
DirState picture(fs::Filesystem& filesystem);

/// Runs fs::check with data; throws if it cannot run or the volume is not clean.
void require_clean(World& world, const std::string& disk);

/// Makes a file, writes it and makes it durable; throws if that fails.
void require_usable(fs::Mount& mount);

/// What the disk "a" holds after a power cut. It must be clean and mount; with `use` it must also
/// be usable.
DirState recover_alone(World& world, bool use);

/// Name of the disk that is devid 1 now.
std::string member_of(fs::Mount& mount);

/// Brings the replace of this mount to its end, whatever its state (waits for it, resumes it, or
/// starts again with `target`). Then destroys the disk `source`; `target` alone must be clean and
/// hold `expected`.
void require_target_alone(World& world, std::unique_ptr<fs::Mount> mount, const std::string& source,
                          const std::string& target, const DirState& expected);

}  // namespace moltfs::crash
