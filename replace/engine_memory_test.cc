// SPDX-License-Identifier: MIT
// Memory runs out in the midst of a replace: on a worker, at the start, at a commit, when the target
// fails. The replace is suspended, and everything else goes on.
#include <atomic>
#include <chrono>
#include <new>
#include <set>
#include <thread>

#include "alloc/base/log.h"
#include "replace/engine.h"
#include "replace/engine_test_util.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace moltfs::replace::test;
using alloc::IoOp;
using alloc::IoRequest;

namespace {

constexpr uint64_t kSize = 64 * kMiB;

struct Bench : Machine {
  Bench() : Machine({{"mem:a", kSize}, {"mem:b", kSize}}) {
    options.window_bytes = 256 * 1024;
    make("mem:a");
    populate(4 * kMiB, random);
  }
  bool works() { return host->write(64 * 1024, random) && host->commit(); }
  std::mt19937 random{7};
};

bool is_on(const IoRequest& request, const char* path) {
  return request.device->path() == path;
}

}  // namespace

TEST_CASE("a worker of the copy without memory suspends the replace; resume finishes it") {
  const bool in_listing = GENERATE(true, false);
  Bench m;
  std::atomic<int> left{5};
  const auto allocate = [&] {
    if (left-- == 1) throw std::bad_alloc();
  };
  if (in_listing) {
    m.host->on_list = [&](LogicalRange) { allocate(); };
  } else {
    m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (is_on(request, "mem:a") && request.op == IoOp::read) allocate();
      return ok();
    });
  }
  REQUIRE(m.engine->start({"1", "mem:b"}));
  Status status = m.wait();
  REQUIRE(status.state == State::suspended);
  REQUIRE(status.reason.find("memory") != std::string::npos);
  REQUIRE(!m.volume->mapper().current()->duplication());
  REQUIRE(m.works());
  REQUIRE(m.engine->resume());
  status = m.wait();
  REQUIRE(status.state == State::finished);
  REQUIRE(status.reason.empty());
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("memory runs out at the k-th request to a device, for a moment or for some time") {
  const int for_long = GENERATE(1, 20);
  std::set<State> seen;
  for (int k = 1;; ++k) {
    INFO("k = " << k);
    Bench m;
    std::atomic<int> count{0};
    std::atomic<bool> armed{true};
    const auto starter = std::this_thread::get_id();
    m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      // What users do gets ENOMEM; here only the engine's own work has no memory.
      if (!armed || !is_on(request, "mem:b") || std::this_thread::get_id() != starter) return ok();
      const int nth = ++count;
      if (nth >= k && nth < k + for_long) throw std::bad_alloc();
      return ok();
    });
    const auto started = m.engine->start({"1", "mem:b"});
    const bool met = count >= k;
    if (met && !started) REQUIRE(started.error() == Errc::out_of_memory);
    armed = false;
    seen.insert(m.wait().state);
    if (m.engine->status().state == State::suspended) {
      REQUIRE(m.engine->resume());
    } else if (!started) {
      // The commit may have been cut short; this toy filesystem is then read-only.
      if (!m.host->commit()) {
        if (!met) break;
        continue;
      }
      REQUIRE(m.engine->start({"1", "mem:b", true}));  // it may bear a superblock
    }
    REQUIRE(m.wait().state == State::finished);
    REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
    if (!met) break;
  }
  REQUIRE(seen.contains(State::finished));
}

TEST_CASE("a fault of the target is noted even if there is no memory to say so at first") {
  Bench m;
  std::atomic<bool> broken{false};
  m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (broken && is_on(request, "mem:b")) return Error(Errc::io_error);
    return ok();
  });
  m.host->on_list = [&](LogicalRange) {
    while (!broken) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  REQUIRE(m.engine->start({"1", "mem:b"}));
  std::atomic<int> left{3};
  set_log_sink([&](LogLevel, const std::string&) {
    if (left-- > 0) throw std::bad_alloc();
  });
  broken = true;
  const bool works = m.works();
  const State state = m.wait().state;
  set_log_sink({});
  REQUIRE(works);
  REQUIRE(state == State::suspended);
  REQUIRE(left <= 0);
  broken = false;
  m.host->on_list = {};
  REQUIRE(m.engine->resume());
  REQUIRE(m.wait().state == State::finished);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}
