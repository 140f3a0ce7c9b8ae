// SPDX-License-Identifier: MIT
// The power is cut at every point of a short scenario, and any part of what was not flushed is
// lost. What is left must mount, be clean, and hold a state that the scenario allows.
#include <array>
#include <cstdlib>
#include <unordered_map>

#include "fs/check/check.h"
#include "test/crash/operations.h"
#include "test/crash/recorder.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::crash;

namespace {

unsigned subsets(unsigned fallback) {
  const char* given = std::getenv("MOLTFS_CRASH_SUBSETS");
  return given == nullptr ? fallback : static_cast<unsigned>(std::strtoul(given, nullptr, 10));
}

/// What follows an operation: nothing, an fsync, or a commit.
enum class Then { nothing, sync, commit };

/// One operation and a step that makes it durable, as the log sees it.
void logged(Recorder& log, fs::Mount& mount, std::string_view name, Then then = Then::sync) {
  log.issue();
  must(operation(name).act(mount.filesystem()), name);
  log.reached(picture(mount.filesystem()));
  if (then == Then::nothing) return;
  fs::Filesystem& filesystem = mount.filesystem();
  must(then == Then::sync ? filesystem.sync() : filesystem.commit(), "sync");
  log.durable();
}

using Scenario = std::function<void(World&, fs::Mount&, Recorder&)>;

/// Runs `scenario` on a mount of "a" and logs it. Returns what went wrong.
std::string record(const Images& start, const Scenario& scenario, std::unique_ptr<Recorder>& log) {
  return in_world(start, 7, [&](World& world) {
    log = std::make_unique<Recorder>(world);
    auto mount = open(world, "a");
    log->begin(picture(mount->filesystem()));
    scenario(world, *mount, *log);
    must(mount->close(), "close");
    log->durable();
    log->stop(world);
  });
}

// ---- Source and target.

struct Opened {
  std::string member;  ///< empty: it did not mount
  std::string error;
  DirState found;
};

/// Mounts the disk `offer` alone. `finish`: brings a replace that runs or is suspended to its end.
Opened offer(World& world, const std::string& offer, bool finish) {
  Opened result;
  fs::CheckOptions check;
  check.data = true;
  check.cache_bytes = 4 << 20;
  auto report = fs::check(world.runtime, world.devices, {offer}, check);
  if (report && !report.value().clean()) {
    const auto& first = report.value().findings.front();
    fail("check {}: {}: {}", offer, first.where, first.what);
  }
  auto opened = fs::Mount::open(world.runtime, world.devices, {offer}, mount_options());
  if (!opened) {
    result.error = opened.error().message();
    return result;
  }
  auto mount = std::move(opened).value();
  result.member = member_of(*mount);
  result.found = picture(mount->filesystem());
  const auto state = mount->replace().status().state;
  using replace::State;
  if (finish && (replace::in_progress(state) || state == State::suspended)) {
    require_target_alone(world, std::move(mount), "a", "b", result.found);
  } else {
    must(mount->close(), "close");
  }
  return result;
}

/// Offers both disks, one after the other. Returns the one member and what it holds.
Opened recover_pair(const Images& images, uint64_t hash, bool finish, std::string& wrong) {
  std::array<Opened, 2> opened;
  for (const size_t first : {0, 1}) {
    const std::string name = images[first].name;
    const std::string failure = in_world(images, hash, [&](World& world) {
      opened[first] = offer(world, name, finish && first == 0);
    });
    if (!failure.empty()) wrong = fmt::format("{} offered: {}", name, failure);
  }
  if (!wrong.empty()) return opened[0];
  if (opened[0].member.empty()) std::swap(opened[0], opened[1]);
  if (opened[0].member.empty()) {
    wrong = fmt::format("neither mounts: {}; {}", opened[0].error, opened[1].error);
  } else if (!opened[1].member.empty()) {
    if (opened[0].member != opened[1].member) wrong = "two members";
    if (!sim::same(opened[0].found, opened[1].found, &wrong)) wrong = "two contents: " + wrong;
  }
  return opened[0];
}

// ---- Every cut of a log.

/// Returns what is on the images; sets its second argument if something is wrong.
using Recover = std::function<DirState(const Recorder::Cut&, const Images&, std::string& wrong)>;

void try_every_cut(const Recorder& log, const Images& start, unsigned random_subsets,
                   uint64_t stride, const Recover& recover) {
  std::unordered_map<uint64_t, DirState> known;
  size_t cuts = 0, failures = 0;
  std::string first_failure;
  log.each_cut(start, random_subsets, [&](const Recorder::Cut& cut, const Images& images) {
    // Cuts that lose nothing or everything always; one in `stride` of the others.
    if (cut.how != "none" && cut.how != "all" && cut.hash % stride != 0) return;
    ++cuts;
    std::string wrong;
    auto found = known.find(cut.hash);
    if (found == known.end()) {
      DirState state = recover(cut, images, wrong);
      if (wrong.empty()) found = known.emplace(cut.hash, std::move(state)).first;
    }
    std::string why;
    if (wrong.empty() && !log.allows(cut.allowed, found->second, &why)) {
      wrong =
          fmt::format("none of the states {}..{}: {}", cut.allowed.first, cut.allowed.last, why);
    }
    if (wrong.empty()) return;
    if (failures++ == 0) {
      first_failure =
          fmt::format("event {} of {}, {}: {}", cut.event, log.event_count(), cut.how, wrong);
    }
  });
  INFO(cuts << " cuts, " << known.size() << " different images, " << failures << " failures");
  if (std::getenv("MOLTFS_CRASH_VERBOSE") != nullptr) {
    fmt::print("{} events, {} cuts, {} images, {} failures {}\n", log.event_count(), cuts,
               known.size(), failures, first_failure);
  }
  CHECK(first_failure == "");
  CHECK(known.size() > 2);
}

void try_alone(const Scenario& scenario) {
  std::unique_ptr<Recorder> log;
  REQUIRE(record(prepared(), scenario, log) == "");
  try_every_cut(*log, prepared(), subsets(24), 1,
                [](const Recorder::Cut& cut, const Images& images, std::string& wrong) {
                  DirState found;
                  wrong = in_world(images, cut.hash, [&](World& world) {
                    found = recover_alone(world, cut.hash % 4 == 0);
                  });
                  return found;
                });
}

void try_replace(const Scenario& scenario, const char* last_member) {
  Images start = prepared();
  start.push_back({"b", {}});
  std::unique_ptr<Recorder> log;
  REQUIRE(record(start, scenario, log) == "");
  const uint64_t stride = std::getenv("MOLTFS_CRASH_SUBSETS") == nullptr ? 4 : 1;
  std::string member;
  try_every_cut(*log, start, subsets(4), stride,
                [&](const Recorder::Cut& cut, const Images& images, std::string& wrong) {
                  const bool finish = cut.hash / stride % 4 == 0;
                  Opened opened = recover_pair(images, cut.hash, finish, wrong);
                  member = opened.member;
                  return std::move(opened.found);
                });
  CHECK(member == last_member);
}

void begin_replace(fs::Mount& mount) {
  must(mount.replace().start({"1", "b", true}), "start");
}

void wait_for(World& world, fs::Mount& mount, replace::State state) {
  const auto deadline = world.runtime.now() + std::chrono::minutes(1);
  const auto status = mount.replace().wait([&] { return world.runtime.now() > deadline; });
  if (status.state != state) {
    fail("the replace is {} ({})", replace::name_of(status.state), status.reason);
  }
}

}  // namespace

TEST_CASE("each operation followed by sync, and by a commit") {
  for (const auto& op : operations()) {
    DYNAMIC_SECTION(op.name) {
      try_alone([&](World&, fs::Mount& mount, Recorder& log) { logged(log, mount, op.name); });
    }
  }
}

TEST_CASE("each operation followed by a commit alone") {
  for (const auto& op : operations()) {
    DYNAMIC_SECTION(op.name) {
      try_alone([&](World&, fs::Mount& mount, Recorder& log) {
        logged(log, mount, op.name, Then::commit);
      });
    }
  }
}

TEST_CASE("several syncs: the log grows, and what it names is freed") {
  try_alone([](World&, fs::Mount& mount, Recorder& log) {
    logged(log, mount, "overwrite");
    logged(log, mount, "overwrite unaligned");
    logged(log, mount, "rename over");
    logged(log, mount, "write blocks", Then::nothing);
    logged(log, mount, "xattr large", Then::commit);
    logged(log, mount, "append");
    logged(log, mount, "unlink one of two", Then::nothing);
  });
}

TEST_CASE("operations with and without sync between them") {
  try_alone([](World&, fs::Mount& mount, Recorder& log) {
    logged(log, mount, "write blocks", Then::nothing);
    logged(log, mount, "rename over", Then::commit);
    logged(log, mount, "append", Then::nothing);
    logged(log, mount, "create", Then::commit);
  });
}

TEST_CASE("commits that make and remove chunks") {
  for (const Then then : {Then::commit, Then::sync}) {
    try_alone([&](World&, fs::Mount& mount, Recorder& log) {
      logged(log, mount, "new chunks", then);
      logged(log, mount, "fewer chunks", Then::commit);
      logged(log, mount, "unlink", Then::commit);
      // Two more commits: only now may what a removal has freed be reused.
      logged(log, mount, "write blocks", then);
      logged(log, mount, "overwrite", then);
    });
  }
}

TEST_CASE("a replace from start to finish") {
  try_replace(
      [](World& world, fs::Mount& mount, Recorder& log) {
        logged(log, mount, "create");
        begin_replace(mount);
        logged(log, mount, "overwrite", Then::nothing);
        logged(log, mount, "write blocks");
        logged(log, mount, "unlink one of two");
        wait_for(world, mount, replace::State::finished);
        logged(log, mount, "append");
      },
      "b");
}

TEST_CASE("a replace is cancelled") {
  try_replace(
      [](World&, fs::Mount& mount, Recorder& log) {
        begin_replace(mount);
        logged(log, mount, "write blocks");
        must(mount.replace().cancel(), "cancel");
        logged(log, mount, "append");
      },
      "a");
}

TEST_CASE("a replace is suspended by its target and resumed") {
  try_replace(
      [](World& world, fs::Mount& mount, Recorder& log) {
        begin_replace(mount);
        logged(log, mount, "create");
        world.devices.set_fault([](sim::Disk& disk, const alloc::IoRequest&) -> Result<void> {
          if (disk.name == "b") return Error(Errc::io_error);
          return ok();
        });
        logged(log, mount, "overwrite");
        wait_for(world, mount, replace::State::suspended);
        logged(log, mount, "write blocks");
        world.devices.set_fault({});
        must(mount.replace().resume(), "resume");
        logged(log, mount, "append", Then::nothing);
        wait_for(world, mount, replace::State::finished);
        logged(log, mount, "unlink");
      },
      "b");
}
