// SPDX-License-Identifier: MIT
// The k-th request of the *source* fails or reads wrong while it is replaced: in each step of
// start, copy and finish, of a cancel, of a resume. Afterwards one of the two devices must mount
// with a state that the user's work passed through and be usable, and it must be possible to bring
// the replace to its end, with the target alone right.
#include <cstring>

#include "fs/check/check.h"
#include "test/crash/operations.h"
#include "test/fault/trap.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::crash;
using namespace moltfs::fault;
using replace::State;

namespace {

constexpr std::array<Fault, 4> kAll = {Fault::once, Fault::for_ever, Fault::rot_once,
                                       Fault::rot_for_ever};

/// How far the user's work got: states of work_states().
struct Progress {
  size_t durable = 0, begun = 0;
};

/// The user's work. It may fail from some operation on, because the source is the user's device.
Progress work_while_it_lasts(fs::Mount& mount) {
  Progress progress;
  for (const char* name : kWork) {
    ++progress.begun;
    if (!operation(name).act(mount.filesystem())) break;
    if (!mount.filesystem().sync()) break;
    progress.durable = progress.begun;
  }
  return progress;
}

bool possible(const std::vector<DirState>& states, const Progress& progress, const DirState& found,
              std::string* why) {
  for (size_t k = progress.durable; k <= progress.begun; ++k) {
    if (sim::same(states[k], found, k == progress.begun ? why : nullptr)) return true;
    if (k < progress.begun && sim::lies_between(states[k], states[k + 1], found)) return true;
  }
  return false;
}

/// Mounts the member, which is one of the two; the other one must be refused with a sentence.
std::unique_ptr<fs::Mount> open_member(World& world) {
  std::string refusals;
  for (const char* disk : {"a", "b"}) {
    auto opened = fs::Mount::open(world.runtime, world.devices, {disk}, mount_options());
    if (opened) return std::move(opened).value();
    if (opened.error().message().find(disk) == std::string::npos) {
      fail("refused without a clear sentence: {}", opened.error().message());
    }
    refusals += "; " + opened.error().message();
  }
  fail("neither mounts{}", refusals);
}

/// The member, which is one of the two, must have no damage.
void require_clean_member(World& world) {
  fs::CheckOptions options;
  options.data = true;
  const auto of_source = fs::check(world.runtime, world.devices, {"a"}, options);
  require_clean(world, of_source ? "a" : "b");
}

/// After a fault, with the source healthy again.
void require_replaceable(World& world, const std::vector<DirState>& states,
                         const Progress& progress) {
  auto mount = open_member(world);
  const DirState found = picture(mount->filesystem());
  std::string why;
  if (!possible(states, progress, found, &why)) fail("after a new mount: {}", why);
  require_usable(*mount);
  must(mount->close(), "close after a new mount");
  mount.reset();
  require_target_alone(world, open_member(world), "a", "b", found);
}

/// A block of data, of which there is one copy, is rotten for good. The replace must stop before
/// the swap; when it is told to go on it must finish and name the file, and everything else must be
/// on the target.
void require_one_file_lost(World& world, std::unique_ptr<fs::Mount> mount,
                           const replace::Status& stopped, const DirState& expected) {
  if (stopped.state != State::suspended) {
    fail("{} without {} blocks", replace::name_of(stopped.state),
         stopped.errors.read_uncorrectable);
  }
  must(mount->replace().resume(true), "resume");
  const auto status = wait(world, *mount);
  if (status.state != State::finished) fail("not finished: {}", status.reason);
  if (status.errors.read_uncorrectable != 1) {
    fail("{} blocks are lost", status.errors.read_uncorrectable);
  }
  must(mount->close(), "close");
  mount.reset();
  world.devices.remove("a");
  auto alone = open(world, "b");
  size_t lost = 0;
  for (const auto& [name, id] : expected.names) {
    const std::string& want = *expected.files.at(id).content;
    auto entry = must(alone->filesystem().lookup(fs::kRootInode, name), name);
    AlignedBuffer buffer(round_up(want.size() + 1, kBlockSize));
    auto read = alone->filesystem().read(entry.ino, 0, buffer.span());
    alone->filesystem().forget(entry.ino, 1);
    if (!read && entry.size > 0 && status.reason.find(name) != std::string::npos) {
      ++lost;
      continue;
    }
    if ((entry.mode & 0170000) != 0100000) continue;
    if (!read || read.value() != want.size() ||
        std::memcmp(buffer.data(), want.data(), want.size()) != 0) {
      fail("{} is wrong on the target, and the status does not name it: {}", name, status.reason);
    }
  }
  if (lost == 0) fail("the status names no file that is lost: {}", status.reason);
  must(alone->close(), "close");
}

enum class Step { whole, cancel, resume };

/// Brings the mount to the state in which the trap is set.
std::unique_ptr<fs::Mount> prepare(World& world, Step step) {
  auto mount = open(world, "a");
  if (step == Step::whole) return mount;
  must(mount->replace().start({"1", "b", true}), "start");
  if (step == Step::cancel) return mount;
  Trap broken(world, "b", 1, Fault::for_ever);
  must(operation("create").act(mount->filesystem()), "create");
  must(mount->filesystem().sync(), "sync");
  if (wait(world, *mount).state != State::suspended) fail("not suspended");
  must(mount->filesystem().unlink(fs::kRootInode, "new"), "unlink");
  must(mount->filesystem().sync(), "sync");
  return mount;
}

/// What the user does with the replace under the trap. Errors must have a sentence.
void act(fs::Mount& mount, Step step) {
  Result<void> done = ok();
  if (step == Step::whole) done = mount.replace().start({"1", "b", true});
  if (step == Step::cancel) done = mount.replace().cancel();
  if (step == Step::resume) done = mount.replace().resume();
  if (!done && done.error().message().empty()) fail("an error without a sentence");
}

std::string with_fault(Step step, Fault fault, uint64_t k, const std::vector<DirState>& states,
                       bool& sprung) {
  return in_world(with_target(prepared()), k, [&](World& world) {
    auto mount = prepare(world, step);
    const auto before = mount->replace().status().errors;
    Trap trap(world, "a", k, fault);
    act(*mount, step);
    const Progress progress = work_while_it_lasts(*mount);
    const auto status = wait(world, *mount);
    require_reason(status);
    sprung = trap.sprung();
    const State wanted = step == Step::cancel ? State::cancelled : State::finished;
    if (!sprung && (status.state != wanted || progress.durable != kWork.size())) {
      fail("{} without a fault ({})", replace::name_of(status.state), status.reason);
    }
    if (status.errors.target_write != before.target_write ||
        status.errors.target_flush != before.target_flush) {
      fail("the target is blamed");
    }
    trap.heal();
    if (status.errors.read_uncorrectable != 0 && fault == Fault::rot_for_ever) {
      return require_one_file_lost(world, std::move(mount), status, states[progress.begun]);
    }
    if (status.errors.read_uncorrectable != 0 && status.state == State::finished) {
      fail("finished without {} blocks that are there", status.errors.read_uncorrectable);
    }
    (void)mount->close();  // may return the error of a commit that failed
    mount.reset();
    if (fault != Fault::rot_for_ever) require_clean_member(world);
    require_replaceable(world, states, progress);
  });
}

void try_step(Step step, std::span<const Fault> faults) {
  const auto states = work_states();
  for (const Fault fault : faults) {
    DYNAMIC_SECTION(name_of(fault)) {
      each_request(fault, [&](uint64_t k, bool& sprung) {
        return with_fault(step, fault, k, states, sprung);
      });
    }
  }
}

}  // namespace

TEST_CASE("a replace from start to finish: each request of the source") {
  try_step(Step::whole, kAll);
}

// It reads nothing.
TEST_CASE("a cancel: each request of the source") {
  try_step(Step::cancel, kErrors);
}

TEST_CASE("a resume: each request of the source") {
  try_step(Step::resume, kAll);
}
