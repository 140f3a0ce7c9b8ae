// SPDX-License-Identifier: MIT
// Every device request of a replace fails in turn (k = 1, 2, 3 ... until a run has fewer requests):
// on the target once or for good, and on all devices at once, which is a crash.
#include <fmt/format.h>

#include <set>

#include "replace/engine.h"
#include "replace/engine_test_util.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace moltfs::replace::test;
using alloc::IoRequest;

namespace {

constexpr uint64_t kFaultBenchBytes = 64 * kMiB;

struct FaultBench : Machine {
  FaultBench() : Machine({{"mem:a", kFaultBenchBytes}, {"mem:b", kFaultBenchBytes}}) {
    options.window_bytes = 256 * 1024;
    options.windows_in_flight = 2;
    options.commit_interval = std::chrono::milliseconds(1);
    workers = 3;
    make("mem:a");
    populate(kMiB, random);
  }
  /// What users do meanwhile; must not fail.
  bool work() {
    for (int i = 0; i < 3; ++i) {
      if (!host->write(4 * kBlockSize, random)) return false;
      host->remove(random);
      if (!host->add_node(random)) return false;
      if (!host->commit()) return false;
    }
    return true;
  }
  std::mt19937 random{5};
};

/// Runs `life(bench, k)` for k = 1, 2, 3 ... while it returns that there was a k-th request.
template <class Life>
unsigned for_each_k(Life life) {
  unsigned k = 1;
  for (; k < 2000; ++k) {
    INFO("k = " << k);
    FaultBench m;
    if (!life(m, k)) break;
  }
  return k - 1;
}

}  // namespace

TEST_CASE("R8: the k-th request on the target fails; users never see it, and it can be finished") {
  const bool for_good = GENERATE(false, true);
  std::set<State> seen;
  const unsigned requests = for_each_k([&](FaultBench& m, unsigned k) {
    std::atomic<unsigned> count{0};
    std::atomic<bool> healed{false};
    m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (request.device->path() != "mem:b") return ok();
      const unsigned nth = ++count;
      if (healed || (for_good ? nth < k : nth != k)) return ok();
      return Error(Errc::io_error);
    });
    auto started = m.engine->start({"1", "mem:b"});
    bool users_are_happy = true;
    if (started) {
      users_are_happy = m.work();
      m.wait();
    }
    healed = true;
    State state = m.engine->status().state;
    seen.insert(state);
    const bool met = count >= k;
    if (!met) REQUIRE(state == State::finished);
    // After the swap the target is a member: its faults reach the volume.
    const bool by_member = state == State::finished && !m.host->commit();
    REQUIRE((users_are_happy || state == State::finished));
    if (by_member) {
      m.power_off();
      m.devices.remove("mem:a");
      REQUIRE(m.mount("mem:b"));
      REQUIRE(m.content_is_right());
      return met;
    }
    if (state == State::suspended) {
      INFO(m.engine->status().reason);
      REQUIRE(!m.volume->mapper().current()->duplication());
      REQUIRE(m.work());
      auto resumed = m.engine->resume();
      if (!resumed) {
        // A fault during the swap may have cost the target its superblock.
        INFO(resumed.error().message());
        REQUIRE(resumed.error() == Errc::not_found);
        REQUIRE(m.engine->cancel());
        REQUIRE(m.engine->start({"1", "mem:b", true}));
      }
      REQUIRE(m.work());
      REQUIRE(m.wait().state == State::finished);
    } else if (state != State::finished) {
      REQUIRE(!started);
      REQUIRE((state == State::failed || state == State::none));
      REQUIRE(!m.volume->mapper().current()->duplication());
      REQUIRE(m.work());
      REQUIRE(m.engine->start({"1", "mem:b", true}));
      REQUIRE(m.work());
      REQUIRE(m.wait().state == State::finished);
    }
    m.devices.set_hook({});
    REQUIRE(m.content_is_right());
    REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
    return met;
  });
  REQUIRE(requests > 20);
  REQUIRE(seen.count(State::suspended) == 1);
  REQUIRE(seen.count(State::failed) == 1);
}

TEST_CASE("R7: the power is cut at the k-th request; one device mounts, and the replace goes on") {
  std::set<State> seen;
  const unsigned requests = for_each_k([&](FaultBench& m, unsigned k) {
    std::atomic<unsigned> count{0};
    m.devices.set_hook([&](const IoRequest&) -> Result<void> {
      if (++count < k) return ok();
      return Error(Errc::device_gone);
    });
    if (m.engine->start({"1", "mem:b"})) {
      (void)m.work();
      m.wait();
    }
    const bool met = count >= k;
    m.power_off();
    auto mounted = m.mount("mem:a");
    if (!mounted) {
      INFO(mounted.error().message());
      REQUIRE(mounted.error() == Errc::replaced_device);
      REQUIRE(m.mount("mem:b"));
    }
    REQUIRE(m.content_is_right());
    State state = m.engine->status().state;
    seen.insert(state);
    m.engine->run();
    REQUIRE(m.work());
    state = m.wait().state;
    if (state == State::suspended) {  // the target was wiped, or its superblock not complete
      REQUIRE(m.engine->cancel());
      state = State::cancelled;
    }
    if (state != State::finished) {
      auto started = m.engine->start({"1", "mem:b", true});
      INFO((started ? std::string() : started.error().message()));
      REQUIRE(started);
      REQUIRE(m.work());
      REQUIRE(m.wait().state == State::finished);
    }
    REQUIRE(m.content_is_right());
    REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
    return met;
  });
  REQUIRE(requests > 20);
  REQUIRE(seen.count(State::copying) + seen.count(State::armed) > 0);
  REQUIRE(seen.count(State::finishing) + seen.count(State::finished) > 0);
}

TEST_CASE("the k-th request on the target fails while it is cancelled") {
  for_each_k([&](FaultBench& m, unsigned k) {
    m.options.commit_interval = std::chrono::seconds(10);
    std::atomic<unsigned> count{0};
    std::atomic<bool> counting{false};
    m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (!counting || request.device->path() != "mem:b" || ++count != k) return ok();
      return Error(Errc::io_error);
    });
    std::atomic<bool> hold{true};
    m.host->on_list = [&](LogicalRange) {
      while (hold) m.runtime.sleep(std::chrono::milliseconds(1));
    };
    REQUIRE(m.engine->start({"1", "mem:b"}));
    counting = true;
    auto releaser = m.runtime.spawn("release", [&] {
      m.runtime.sleep(std::chrono::milliseconds(3));
      hold = false;
    });
    REQUIRE(m.engine->cancel());
    releaser->join();
    REQUIRE(m.engine->status().state == State::cancelled);
    REQUIRE(!m.volume->mapper().current()->duplication());
    REQUIRE(m.work());
    REQUIRE(m.content_is_right());
    return count >= k;
  });
}
