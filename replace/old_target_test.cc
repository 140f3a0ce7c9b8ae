// SPDX-License-Identifier: MIT
// A target that was put back from an older copy lacks what was written to it since. The record
// claims that it has it, so it must be noticed before the swap.
#include <atomic>
#include <chrono>
#include <thread>

#include "alloc/disk/format.h"
#include "replace/engine.h"
#include "replace/engine_test_util.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace moltfs::replace::test;
using alloc::IoRequest;
using moltfs::test::MemoryDisk;

namespace {

constexpr uint64_t kSize = 64 * kMiB;

struct Bench : Machine {
  Bench() : Machine({{"mem:a", kSize}, {"mem:b", kSize}}) {
    options.window_bytes = 256 * 1024;
    options.windows_in_flight = 1;
    make("mem:a");
    populate(4 * kMiB, random);
    devices.set_hook([this](const IoRequest& request) -> Result<void> {
      if (broken && request.device->path() == "mem:b") return Error(Errc::io_error);
      return ok();
    });
  }
  ~Bench() { holds = false; }
  /// Starts a replace whose copier waits before its `n`-th window.
  void start_and_hold(int n) {
    holds = true;
    host->on_list = [this, n](LogicalRange) {
      if (++listed < n) return;
      arrived = true;
      while (holds) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    REQUIRE(engine->start({"1", "mem:b"}));
    while (!arrived) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  void write_and_commit(int times) {
    for (int i = 0; i < times; ++i) {
      host->write(64 * 1024, random).value();
      host->commit().value();
    }
  }
  /// The target breaks, and the replace is suspended.
  void suspend() {
    broken = true;
    host->write(64 * 1024, random).value();
    holds = false;
    REQUIRE(wait().state == State::suspended);
    broken = false;
  }
  /// Ends the mount while the copier is at work.
  void end(bool crash) {
    std::thread opener([this] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      holds = false;
    });
    crash ? power_off() : unmount();
    opener.join();
  }
  std::shared_ptr<MemoryDisk> copy_of_target() { return devices.disk("mem:b").clone(); }
  void put_back(std::shared_ptr<MemoryDisk> copy) {
    devices.remove("mem:b");
    devices.insert("mem:b", std::move(copy));
  }

  std::mt19937 random{11};
  std::atomic<bool> broken{false}, holds{false}, arrived{false};
  std::atomic<int> listed{0};
};

bool says_older(const std::string& text) {
  INFO(text);
  return text.find("mem:b is of generation") != std::string::npos &&
         text.find("put back from an older copy") != std::string::npos;
}

}  // namespace

TEST_CASE("an older target of a running replace suspends it at the mount; resume copies it all") {
  const bool crash = GENERATE(false, true);
  Bench m;
  m.start_and_hold(4);
  m.write_and_commit(2);
  const auto old = m.copy_of_target();
  m.write_and_commit(3);
  m.end(crash);
  m.put_back(old);
  REQUIRE(m.mount("mem:a"));
  Status status = m.engine->status();
  REQUIRE(status.state == State::suspended);
  REQUIRE(says_older(status.reason));
  m.engine->run();
  SECTION("resume") {
    m.write_and_commit(2);
    REQUIRE(m.engine->resume());
  }
  SECTION("resume after one more mount") {
    m.write_and_commit(2);
    m.unmount();
    REQUIRE(m.mount("mem:a"));
    REQUIRE(says_older(m.engine->status().reason));
    REQUIRE(m.engine->resume());
  }
  SECTION("a crash at once, and the next mount notices it again") {
    m.power_off();
    REQUIRE(m.mount("mem:a"));
    REQUIRE(m.engine->status().state == State::suspended);
    REQUIRE(m.engine->resume());
  }
  REQUIRE(m.wait().state == State::finished);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("an older target of a suspended replace is copied anew by resume") {
  const bool remount = GENERATE(false, true);
  Bench m;
  m.start_and_hold(4);
  const auto old = m.copy_of_target();
  m.write_and_commit(3);
  m.suspend();
  m.write_and_commit(1);
  if (remount) m.unmount();
  m.put_back(old);
  if (remount) REQUIRE(m.mount("mem:a"));
  REQUIRE(m.engine->status().state == State::suspended);
  REQUIRE(m.engine->resume());
  REQUIRE(m.wait().state == State::finished);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("if resume of an older target is cut off, the next resume does not trust it either") {
  // At each request: what is durable must never claim what the older copy lacks.
  for (int k = 1; k < 400; ++k) {
    INFO("k = " << k);
    Bench m;
    m.start_and_hold(4);
    const auto old = m.copy_of_target();
    m.write_and_commit(3);
    m.suspend();
    m.write_and_commit(1);
    m.put_back(old);
    std::atomic<int> count{0};
    m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (request.op != alloc::IoOp::read && ++count >= k) return Error(Errc::device_gone);
      return ok();
    });
    (void)m.engine->resume();
    m.wait();
    const bool met = count >= k;
    m.power_off();
    if (!m.mount("mem:a")) REQUIRE(m.mount("mem:b"));  // the swap may be done
    m.engine->run();
    m.write_and_commit(1);
    if (m.engine->status().state == State::suspended) REQUIRE(m.engine->resume());
    REQUIRE(m.wait().state == State::finished);
    REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
    if (!met) return;
  }
}

TEST_CASE("a target that is as the record says is not copied again") {
  const bool crash = GENERATE(false, true);
  Bench m;
  m.start_and_hold(6);
  m.write_and_commit(3);
  const auto same = m.copy_of_target();
  m.end(crash);
  // One commit more is on the target than on the source: a crash between the two explains it.
  if (crash) m.put_back(same);
  REQUIRE(m.mount("mem:a"));
  const Status status = m.engine->status();
  INFO(status.reason);
  REQUIRE(status.state == State::copying);
  m.engine->run();
  REQUIRE(m.wait().state == State::finished);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("a target that an older program has begun is believed, as that program did") {
  Bench m;
  m.start_and_hold(4);
  m.write_and_commit(2);
  m.suspend();
  alloc::DeviceOpener::Options how;
  auto device = m.devices.open("mem:b", how).value();
  auto superblock = alloc::read_superblock(m.devices, *device).value();
  superblock.compatible_features &= ~alloc::format::kFeatureTargetFollows;
  superblock.generation = Generation(m.engine->status().start_generation.value - 1);
  REQUIRE(alloc::write_superblock(m.devices, *device, superblock));
  device.reset();
  REQUIRE(m.engine->resume());
  const Status status = m.wait();
  REQUIRE(status.state == State::finished);
  REQUIRE(status.bytes_skipped > 0);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}
