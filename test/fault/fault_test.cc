// SPDX-License-Identifier: MIT
// The k-th request of a device fails, k = 1, 2, 3 ... until a run passes untouched. See README.md.
#include "test/crash/operations.h"
#include "test/fault/trap.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::crash;
using namespace moltfs::fault;
using replace::State;

namespace {

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

/// The disk must be clean, hold the old or the new state, and be usable.
void require_recovered(World& world, const DirState& old, const DirState& fresh) {
  require_clean(world, "a");
  auto mount = open(world, "a");
  require_between(old, fresh, picture(mount->filesystem()), "after a new mount");
  require_usable(*mount);
  must(mount->close(), "close after a new mount");
  mount.reset();
  require_clean(world, "a");
}

/// op, sync and unmount, with a fault of the k-th request of the member.
std::string op_with_fault(const Operation& op, const std::pair<DirState, DirState>& states,
                          uint64_t k, Fault fault, bool& sprung) {
  const DirState &old = states.first, &fresh = states.second;
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

}  // namespace

TEST_CASE("mkfs: each request fails") {
  for (const Fault fault : kErrors) {
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
          options.force = true;  // mkfs may have written our signature before it failed
          must(fs::make_filesystem(world.runtime, world.devices, {"a"}, options), "mkfs again");
        }
        require_recovered(world, {}, {});
      });
    });
  }
}

TEST_CASE("mount and unmount: each request of the member fails") {
  const auto states = old_and_new(nullptr);
  for (const Fault fault : kErrors) {
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
      for (const Fault fault : kErrors) {
        each_request(fault, [&](uint64_t k, bool& sprung) {
          return op_with_fault(op, states, k, fault, sprung);
        });
      }
    }
  }
}

TEST_CASE("a replace: each request of the target fails") {
  const DirState expected = work_states().back();
  for (const Fault fault : kErrors) {
    each_request(fault, [&](uint64_t k, bool& sprung) {
      return in_world(with_target(prepared()), k, [&](World& world) {
        auto mount = open(world, "a");
        Trap trap(world, "b", k, fault, mount.get());
        auto started = mount->replace().start({"1", "b", true});
        if (!started && started.error().message().empty()) fail("an error without a sentence");
        work(*mount);
        const auto status = wait(world, *mount);
        require_reason(status);
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
  const DirState expected = work_states().back();
  for (const Fault fault : kErrors) {
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
  const DirState expected = work_states().back();
  for (const Fault fault : kErrors) {
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
