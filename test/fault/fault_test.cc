// SPDX-License-Identifier: MIT
// The k-th request of a device fails, k = 1, 2, 3 ... until a run passes untouched. See README.md.
#include <array>
#include <cstdlib>

#include "test/crash/operations.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::crash;
using replace::State;

namespace {

enum class Fault { once, for_ever };

const char* name_of(Fault fault) {
  return fault == Fault::once ? "once" : "for ever";
}

/// Makes the k-th request from now on of one disk fail, and with Fault::for_ever all after it.
/// With `mount`: only as long as the disk is not its member; from the swap on its faults are the
/// users' too.
class Trap {
 public:
  Trap(World& world, std::string disk, uint64_t k, Fault fault, fs::Mount* mount = nullptr)
      : world_(world), left_(k) {
    world.devices.set_fault([this, disk = std::move(disk), fault, mount](
                                sim::Disk& on, const alloc::IoRequest&) -> Result<void> {
      if (on.name != disk || left_ == 0) return ok();
      if (mount != nullptr && member_of(*mount) == disk) return ok();
      if (left_ == 1) {
        sprung_ = true;
        if (fault == Fault::once) left_ = 0;
        return Error(Errc::io_error);
      }
      --left_;
      return ok();
    });
  }
  ~Trap() { heal(); }
  Trap(const Trap&) = delete;
  Trap& operator=(const Trap&) = delete;
  void heal() { world_.devices.set_fault({}); }
  bool sprung() const { return sprung_; }

 private:
  World& world_;
  uint64_t left_;
  bool sprung_ = false;
};

/// `run` with k = 1, 2, 3 ... until it says that nothing failed. It returns what went wrong.
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

void require_between(const DirState& old, const DirState& fresh, const DirState& found,
                     const char* when) {
  std::string why;
  if (sim::same(old, found, nullptr) || sim::same(fresh, found, &why) ||
      sim::lies_between(old, fresh, found)) {
    return;
  }
  fail("{}: neither old nor new: {}", when, why);
}

/// What the prepared filesystem holds, and what it holds after `op` (null: the same).
std::pair<DirState, DirState> old_and_new(const Operation* op) {
  std::pair<DirState, DirState> states;
  const std::string wrong = in_world(prepared(), 1, [&](World& world) {
    auto mount = open(world, "a");
    states.first = picture(mount->filesystem());
    if (op != nullptr) must(op->act(mount->filesystem()), op->name);
    states.second = picture(mount->filesystem());
    must(mount->close(), "close");
  });
  if (!wrong.empty()) fail("{}", wrong);
  return states;
}

/// The disk is sound, holds the old or the new state, and can be used.
void require_recovered(World& world, const DirState& old, const DirState& fresh) {
  require_clean(world, "a");
  auto mount = open(world, "a");
  require_between(old, fresh, picture(mount->filesystem()), "after a new mount");
  require_usable(*mount);
  must(mount->close(), "close after a new mount");
  mount.reset();
  require_clean(world, "a");
}

/// Of the member, for operations and commits: op, sync, unmount with a fault of the k-th request.
std::string op_with_fault(const Operation& op, const std::pair<DirState, DirState>& states,
                          uint64_t k, Fault fault, bool& sprung) {
  const auto& [old, fresh] = states;
  Images durable;
  const std::string wrong = in_world(prepared(), k, [&](World& world) {
    auto mount = open(world, "a");
    Trap trap(world, "a", k, fault);
    const bool done = !op.act(mount->filesystem()).has_error();
    const bool synced = done && !mount->filesystem().sync().has_error();
    if (synced) durable = {image_of(world, "a", true)};
    if (done && fault == Fault::once) {
      require_between(fresh, fresh, picture(mount->filesystem()), "while mounted");
    }
    const bool closed = !mount->close().has_error();
    if (!closed && synced && fault == Fault::once && !trap.sprung()) fail("close fails");
    mount.reset();
    sprung = trap.sprung();
    trap.heal();
    if (!synced) durable = {image_of(world, "a", true)};
    require_recovered(world, synced ? fresh : old, fresh);
    if (!sprung && !synced) fail("an error without a fault");
  });
  if (!wrong.empty()) return wrong;
  const bool must_be_new = !sprung;
  std::string after_cut = in_world(durable, k, [&](World& world) {
    require_recovered(world, must_be_new ? fresh : old, fresh);
  });
  return after_cut.empty() ? "" : "after a power cut: " + after_cut;
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

/// The user's own work while a replace goes on.
void work(fs::Mount& mount) {
  for (const char* name : {"write blocks", "overwrite", "unlink one of two"}) {
    must(operation(name).act(mount.filesystem()), name);
    must(mount.filesystem().sync(), "sync");
  }
}

DirState after_work() {
  DirState state;
  const std::string wrong = in_world(prepared(), 1, [&](World& world) {
    auto mount = open(world, "a");
    work(*mount);
    state = picture(mount->filesystem());
    must(mount->close(), "close");
  });
  if (!wrong.empty()) fail("{}", wrong);
  return state;
}

const std::array<Fault, 2> kFaults = {Fault::once, Fault::for_ever};

}  // namespace

TEST_CASE("mkfs: each request fails") {
  for (const Fault fault : kFaults) {
    each_request(fault, [&](uint64_t k, bool& sprung) {
      return in_world({{"a", {}}}, k, [&](World& world) {
        fs::MkfsOptions options;
        Trap trap(world, "a", k, fault);
        auto made = fs::make_filesystem(world.runtime, world.devices, {"a"}, options);
        sprung = trap.sprung();
        trap.heal();
        if (!made) {
          if (!sprung) fail("mkfs: {}", made.error().message());
          if (made.error().message().empty()) fail("an error without a sentence");
          options.force = true;  // it may have got as far as our own signature
          must(fs::make_filesystem(world.runtime, world.devices, {"a"}, options), "mkfs again");
        }
        require_recovered(world, {}, {});
      });
    });
  }
}

TEST_CASE("mount and unmount: each request of the member fails") {
  const auto states = old_and_new(nullptr);
  for (const Fault fault : kFaults) {
    each_request(fault, [&](uint64_t k, bool& sprung) {
      return in_world(prepared(), k, [&](World& world) {
        Trap trap(world, "a", k, fault);
        auto opened = fs::Mount::open(world.runtime, world.devices, {"a"}, mount_options());
        if (opened) {
          (void)opened.value()->close();
          opened.value().reset();
        } else if (opened.error().message().empty()) {
          fail("an error without a sentence");
        }
        sprung = trap.sprung();
        if (!opened && !sprung) fail("mount: {}", opened.error().message());
        trap.heal();
        require_recovered(world, states.first, states.first);
      });
    });
  }
}

TEST_CASE("operations and their commit: each request of the member fails") {
  for (const auto& op : operations()) {
    DYNAMIC_SECTION(op.name) {
      const auto states = old_and_new(&op);
      for (const Fault fault : kFaults) {
        each_request(fault, [&](uint64_t k, bool& sprung) {
          return op_with_fault(op, states, k, fault, sprung);
        });
      }
    }
  }
}

TEST_CASE("a replace: each request of the target fails") {
  const DirState expected = after_work();
  for (const Fault fault : kFaults) {
    each_request(fault, [&](uint64_t k, bool& sprung) {
      return in_world(with_target(prepared()), k, [&](World& world) {
        auto mount = open(world, "a");
        Trap trap(world, "b", k, fault, mount.get());
        auto started = mount->replace().start({"1", "b", true});
        if (!started && started.error().message().empty()) fail("an error without a sentence");
        work(*mount);
        const auto status = wait(world, *mount);
        if ((status.state == State::suspended || status.state == State::failed) &&
            status.reason.empty()) {
          fail("{} without a reason", replace::name_of(status.state));
        }
        sprung = trap.sprung();
        if (!sprung && status.state != State::finished) {
          fail("{} without a fault", replace::name_of(status.state));
        }
        trap.heal();
        require_target_alone(world, std::move(mount), "a", "b", expected);
      });
    });
  }
}

TEST_CASE("a cancel: each request of the target fails") {
  const DirState expected = after_work();
  for (const Fault fault : kFaults) {
    each_request(fault, [&](uint64_t k, bool& sprung) {
      return in_world(with_target(prepared()), k, [&](World& world) {
        auto mount = open(world, "a");
        must(mount->replace().start({"1", "b", true}), "start");
        Trap trap(world, "b", k, fault, mount.get());
        must(mount->replace().cancel(), "cancel");
        sprung = trap.sprung();
        if (mount->replace().status().state != State::cancelled) fail("not cancelled");
        work(*mount);
        trap.heal();
        require_target_alone(world, std::move(mount), "a", "b", expected);
      });
    });
  }
}

TEST_CASE("a resume: each request of the target fails") {
  const DirState expected = after_work();
  for (const Fault fault : kFaults) {
    each_request(fault, [&](uint64_t k, bool& sprung) {
      return in_world(with_target(prepared()), k, [&](World& world) {
        auto mount = open(world, "a");
        must(mount->replace().start({"1", "b", true}), "start");
        {
          Trap broken(world, "b", 1, Fault::for_ever);
          work(*mount);
          if (wait(world, *mount).state != State::suspended) fail("not suspended");
        }
        Trap trap(world, "b", k, fault, mount.get());
        if (mount->replace().resume()) {
          (void)wait(world, *mount);
        } else if (!trap.sprung()) {
          fail("resume fails without a fault");
        }
        sprung = trap.sprung();
        trap.heal();
        require_target_alone(world, std::move(mount), "a", "b", expected);
      });
    });
  }
}
