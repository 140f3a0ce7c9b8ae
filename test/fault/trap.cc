// SPDX-License-Identifier: MIT
// Traps, and what their tests share.
#include "test/fault/trap.h"

#include <cstdlib>

#include "test/crash/operations.h"
#include "test/support/catch.h"

namespace moltfs::fault {

using crash::fail;
using crash::in_world;
using crash::must;
using crash::operation;
using replace::State;

const char* name_of(Fault fault) {
  switch (fault) {
    case Fault::once:
      return "fails once";
    case Fault::for_ever:
      return "fails for ever";
    case Fault::rot_once:
      return "reads wrong once";
    case Fault::rot_for_ever:
      return "rots";
  }
  return "";
}

Trap::Trap(World& world, std::string disk, uint64_t k, Fault fault, fs::Mount* mount)
    : world_(world), disk_(std::move(disk)), left_(k) {
  if (fault == Fault::once || fault == Fault::for_ever) {
    arm_errors(fault == Fault::for_ever, mount);
  } else {
    arm_rot(fault == Fault::rot_for_ever, mount);
  }
}

void Trap::heal() {
  world_.devices.set_fault({});
  world_.devices.set_spoil({});
}

/// Counts a request of the disk; true from the k-th on.
bool Trap::due(const sim::Disk& on, fs::Mount* mount) {
  if (on.name != disk_ || left_ == 0) return false;
  if (mount != nullptr && crash::member_of(*mount) == disk_) return false;
  if (left_ > 1) {
    --left_;
    return false;
  }
  sprung_ = true;
  return true;
}

void Trap::arm_errors(bool for_ever, fs::Mount* mount) {
  world_.devices.set_fault(
      [this, for_ever, mount](sim::Disk& on, const alloc::IoRequest&) -> Result<void> {
        if (!due(on, mount)) return ok();
        if (!for_ever) left_ = 0;
        return Error(Errc::io_error);
      });
}

void Trap::arm_rot(bool for_ever, fs::Mount* mount) {
  world_.devices.set_spoil([this, for_ever, mount](sim::Disk& on, uint64_t offset, Bytes bytes) {
    if (!due(on, mount)) return;
    left_ = 0;
    bytes[100] ^= std::byte{0xff};
    if (!for_ever) return;
    for (auto* image : {&on.durable, &on.current}) {
      std::byte byte{};
      image->read(offset + 100, {&byte, 1});
      byte ^= std::byte{0xff};
      image->write(offset + 100, {&byte, 1});
    }
  });
}

void each_request(Fault fault, const std::function<std::string(uint64_t k, bool& sprung)>& run) {
  uint64_t k = 0;
  size_t failures = 0;
  std::string first_failure;
  for (bool sprung = true; sprung;) {
    sprung = false;
    const std::string wrong = run(++k, sprung);
    if (wrong.empty()) continue;
    if (failures++ == 0) first_failure = fmt::format("request {}: {}", k, wrong);
    if (failures == 20) break;
  }
  INFO(name_of(fault) << ": " << k - 1 << " requests, " << failures << " failures");
  if (std::getenv("MOLTFS_FAULT_VERBOSE") != nullptr) {
    fmt::print("{}: {} requests, {} failures {}\n", name_of(fault), k - 1, failures, first_failure);
  }
  CHECK(first_failure == "");
  CHECK(k > 1);
}

Images with_target(const Images& member) {
  Images both = member;
  both.push_back({"b", {}});
  return both;
}

replace::Status wait(World& world, fs::Mount& mount) {
  const auto deadline = world.runtime.now() + std::chrono::minutes(10);
  auto status = mount.replace().wait([&] { return world.runtime.now() > deadline; });
  if (replace::in_progress(status.state)) {
    fail("the replace hangs in {}", replace::name_of(status.state));
  }
  return status;
}

void work(fs::Mount& mount) {
  for (const char* name : kWork) {
    must(operation(name).act(mount.filesystem()), name);
    must(mount.filesystem().sync(), "sync");
  }
}

std::vector<sim::DirState> work_states() {
  std::vector<sim::DirState> states;
  const std::string wrong = in_world(crash::prepared(), 1, [&](World& world) {
    auto mount = crash::open(world, "a");
    states.push_back(crash::picture(mount->filesystem()));
    for (const char* name : kWork) {
      must(operation(name).act(mount->filesystem()), name);
      states.push_back(crash::picture(mount->filesystem()));
    }
    must(mount->close(), "close");
  });
  if (!wrong.empty()) fail("{}", wrong);
  return states;
}

void require_reason(const replace::Status& status) {
  const bool broken = status.state == State::suspended || status.state == State::failed;
  if (broken && status.reason.empty()) {
    fail("{} without a reason", replace::name_of(status.state));
  }
}

}  // namespace moltfs::fault
