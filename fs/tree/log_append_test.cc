// SPDX-License-Identifier: MIT
// sync(): what it writes, what a mount finds of it, and when it has to be a commit.
#include <atomic>
#include <thread>

#include "fs/tree/tree_test_util.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

struct Log : TestTrees {
  Log() { commit(); }
  void sync() { must(transactions->sync()); }
  /// A crash: what is in memory is gone.
  void crash() { reopen(); }
  size_t batches() const { return volume->found_log().batches.size(); }
  std::string at(uint64_t n) { return get(n).value().value_or("nothing"); }
};

/// Requests to the device, from now on.
struct Counted {
  std::atomic<int> writes{0}, flushes{0};
  explicit Counted(TestTrees& volume) {
    volume.devices.set_hook([this](const alloc::IoRequest& request) -> Result<void> {
      if (request.op == alloc::IoOp::write) ++writes;
      if (request.op == alloc::IoOp::flush) ++flushes;
      return ok();
    });
  }
};

}  // namespace

TEST_CASE("a sync is one write and one flush, and the commit stays what it was") {
  Log log;
  const Generation durable = log.transactions->durable();
  Counted counted(log);
  REQUIRE(log.put(1, "one"));
  log.sync();
  CHECK(counted.writes == 1);
  CHECK(counted.flushes == 1);
  log.sync();  // nothing has changed
  CHECK(counted.writes == 1);
  CHECK(log.transactions->durable() == durable);
  CHECK(log.transactions->has_changes());
}

TEST_CASE("what was synced comes back after a crash, and nothing else") {
  Log log;
  REQUIRE(log.put(1, "old"));
  REQUIRE(log.put(2, "stays"));
  REQUIRE(log.put(3, "goes"));
  log.commit();
  const Generation base = log.transactions->durable();
  REQUIRE(log.put(1, "new"));
  REQUIRE(log.erase(3));
  log.sync();
  REQUIRE(log.put(4, "added"));
  log.sync();
  REQUIRE(log.put(5, "never synced"));
  log.crash();
  CHECK(log.batches() == 2);
  CHECK(log.at(1) == "new");
  CHECK(log.at(2) == "stays");
  CHECK(log.at(3) == "nothing");
  CHECK(log.at(4) == "added");
  CHECK(log.at(5) == "nothing");
  CHECK(log.transactions->running() == base + alloc::kReplayStep);
  CHECK(log.transactions->durable() == base);
  // Until the commit nothing is written: a second crash finds the same.
  log.crash();
  CHECK(log.batches() == 2);
  log.commit();
  CHECK(log.transactions->durable() == base + alloc::kReplayStep);
  log.crash();
  CHECK(log.batches() == 0);
  CHECK(log.at(4) == "added");
  log.shape();
  log.shape(TreeId::extent);
}

TEST_CASE("a commit empties the log") {
  Log log;
  REQUIRE(log.put(1, "one"));
  log.sync();
  REQUIRE(log.put(1, "two"));
  log.commit();
  log.crash();
  CHECK(log.batches() == 0);
  CHECK(log.at(1) == "two");
}

TEST_CASE("a read-only opening replays and writes nothing") {
  Log log;
  REQUIRE(log.put(1, "one"));
  log.sync();
  log.close();
  const auto before = log.disk().clone();
  REQUIRE(log.try_open(true));
  CHECK(log.at(1) == "one");
  REQUIRE(log.transactions->sync());
  const auto replayed = log.transactions->replayed();
  CHECK_FALSE(replayed.nodes.empty());
  log.close();
  CHECK(log.disk().same_content(*before));
}

TEST_CASE("a replay splits, merges and empties a tree") {
  Log log;
  for (uint64_t n = 0; n < 3000; ++n) REQUIRE(log.put(n, std::string(100, 'a')));
  log.commit();
  for (uint64_t n = 0; n < 2800; ++n) REQUIRE(log.erase(n));
  log.sync();
  for (uint64_t n = 5000; n < 6000; ++n) REQUIRE(log.put(n, std::string(200, 'b')));
  log.sync();
  const auto expected = log.content();
  log.crash();
  REQUIRE(log.batches() > 0);
  CHECK(log.content() == expected);
  log.commit();
  log.shape();
  log.crash();
  CHECK(log.content() == expected);
}

TEST_CASE("too many changes make a sync a commit") {
  Log log;
  const Generation before = log.transactions->durable();
  for (uint64_t n = 0; n < 3 * ChangedKeys::kMaxKeys; ++n) REQUIRE(log.put(n, "x"));
  log.sync();
  CHECK(log.transactions->durable() > before);
  REQUIRE(log.put(1, "y"));
  log.sync();
  log.crash();
  CHECK(log.batches() == 1);
  CHECK(log.at(1) == "y");
  CHECK(log.at(2) == "x");
}

TEST_CASE("a full log makes a sync a commit, and pressure asks for one before") {
  Log log;
  int pressed = 0;
  log.transactions->set_pressure_callback([&] { ++pressed; });
  const Generation before = log.transactions->durable();
  int syncs = 0;
  for (; log.transactions->durable() == before; ++syncs) {
    REQUIRE(syncs < 1000);
    REQUIRE(log.put(1, std::to_string(syncs)));
    log.sync();
  }
  CHECK(syncs == static_cast<int>(alloc::kLogBytes / 4096) + 1);
  CHECK(pressed == 1);
  REQUIRE(log.put(2, "after"));
  log.sync();
  log.crash();
  CHECK(log.batches() == 1);
  CHECK(log.at(1) == std::to_string(syncs - 1));
  CHECK(log.at(2) == "after");
}

TEST_CASE("before a large batch the data is flushed") {
  Log log;
  for (uint64_t n = 0; n < 20; ++n) REQUIRE(log.put(n, std::string(1000, 'a')));
  Counted counted(log);
  log.sync();
  CHECK(counted.flushes == 2);
  log.crash();
  REQUIRE(log.batches() == 1);
  CHECK(log.volume->found_log().batches[0].data_flushed);
}

TEST_CASE("the last batch counts only if its data is there, earlier ones in any case") {
  for (const bool matches : {true, false}) {
    Log log;
    REQUIRE(log.put(1, "first"));
    log.sync();
    REQUIRE(log.put(1, "second"));
    log.sync();
    int asked = 0;
    log.options.data_matches = [&](const LogContent& content) {
      ++asked;
      CHECK(content.items.size() == 1);
      return matches;
    };
    log.crash();
    CHECK(asked == 1);
    CHECK(log.at(1) == (matches ? "second" : "first"));
  }
}

TEST_CASE("a batch with an invalid payload ends the log") {
  Log log;
  REQUIRE(log.put(1, "first"));
  log.sync();
  const auto sound = log.volume->log_on(log.transactions->durable());
  REQUIRE(sound);
  // A second batch with a valid frame and an invalid payload.
  alloc::LogChain chain = *sound;
  LogContent content;
  content.counters = {1, 1, 77};
  content.items.push_back({{TreeId::fs, test_key(1)}, std::vector<std::byte>(5)});
  alloc::LogBatch batch;
  batch.running = log.transactions->running();
  batch.payload = encode(content);
  SECTION("of another filesystem") {
    batch.payload[16] = std::byte{1};
  }
  SECTION("cut off") {
    batch.payload.pop_back();
  }
  std::vector<alloc::LogWrite> writes;
  writes.push_back(std::move(*chain.append(batch, log.volume->devices())));
  REQUIRE(log.volume->write_log(writes, false));
  log.crash();
  CHECK(log.batches() == 1);
  CHECK(log.at(1) == "nothing");
  CHECK(log.volume->found_log().begun);
}

TEST_CASE("after a torn first batch nothing is replayed, and the next sync is a commit") {
  Log log;
  REQUIRE(log.put(1, "one"));
  log.sync();
  const uint64_t area = alloc::kLogOffsets[log.transactions->durable().value % 2];
  log.disk().corrupt(area + 3000, 1);
  log.crash();
  CHECK(log.batches() == 0);
  CHECK(log.volume->found_log().begun);
  CHECK(log.at(1) == "nothing");
  // Until the next commit each sync is a commit.
  const Generation before = log.transactions->durable();
  REQUIRE(log.put(1, "two"));
  log.sync();
  CHECK(log.transactions->durable() == before + 1);
}

TEST_CASE("a device that is full when the log is written: the sync fails, and later ones do not") {
  Log log;
  REQUIRE(log.put(1, "old"));
  log.commit();
  REQUIRE(log.put(1, "one"));
  log.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
    if (request.op == alloc::IoOp::write) return Errc::device_full;
    return ok();
  });
  CHECK(log.transactions->sync().error().code == Errc::device_full);
  CHECK(log.transactions->sync().error().code == Errc::device_full);
  CHECK(!log.transactions->fatal());
  log.devices.set_hook({});
  REQUIRE(log.put(2, "two"));
  log.sync();
  REQUIRE(log.put(3, "three"));
  log.sync();
  log.crash();
  CHECK(log.at(1) == "one");
  CHECK(log.at(2) == "two");
  CHECK(log.at(3) == "three");
}

TEST_CASE("a failed write or flush of the log is fatal, and no later sync succeeds") {
  for (const alloc::IoOp op : {alloc::IoOp::write, alloc::IoOp::flush}) {
    Log log;
    REQUIRE(log.put(1, "old"));
    log.commit();
    REQUIRE(log.put(1, "one"));
    log.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
      if (request.op == op) return Errc::io_error;
      return ok();
    });
    CHECK(log.transactions->sync().error().code == Errc::io_error);
    log.devices.set_hook({});
    CHECK(log.transactions->sync().error().code == Errc::io_error);
    CHECK(log.transactions->commit().error().code == Errc::io_error);
    CHECK(log.put(2, "x").error().code == Errc::read_only);
    CHECK(log.transactions->fatal());
    log.crash();
    const std::string found = log.at(1);
    CHECK((found == "old" || found == "one"));
  }
}

TEST_CASE("many tasks sync and commit at once; what they synced is there") {
  Log log;
  constexpr int kTasks = 4, kRounds = 60;
  std::array<std::atomic<int>, kTasks> done{};
  std::vector<std::thread> tasks;
  for (int task = 0; task < kTasks; ++task) {
    tasks.emplace_back([&, task] {
      for (int round = 1; round <= kRounds; ++round) {
        const auto key = static_cast<uint64_t>(task);
        if (!log.put(key, std::to_string(round))) return;
        const bool commits = (round + task) % 7 == 0;
        if (!(commits
                  ? Result<void>(log.transactions->commit() ? ok() : Result<void>(Errc::io_error))
                  : log.transactions->sync())) {
          return;
        }
        done[static_cast<size_t>(task)] = round;
      }
    });
  }
  for (auto& task : tasks) task.join();
  log.crash();
  for (int task = 0; task < kTasks; ++task) {
    CHECK(done[static_cast<size_t>(task)] == kRounds);
    CHECK(log.at(static_cast<uint64_t>(task)) == std::to_string(kRounds));
  }
}

TEST_CASE("a crash at any request of syncs and commits leaves a consistent state") {
  // Each request fails in turn, and with it all that follow: then the disk is what a crash leaves.
  for (int last = 0;; ++last) {
    Log log;
    std::atomic<int> left{last};
    log.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
      if (request.op == alloc::IoOp::read) return ok();
      if (left-- <= 0) return Errc::io_error;
      return ok();
    });
    int reached = 0, safe = 0;
    bool all = true;
    for (int step = 1; step <= 8 && all; ++step) {
      all = bool(log.put(1, std::to_string(step)));
      if (!all) break;
      reached = step;
      all = step % 3 == 0 ? bool(log.transactions->commit()) : bool(log.transactions->sync());
      if (all) safe = step;
    }
    log.devices.set_hook({});
    log.crash();
    const std::string found = log.at(1);
    const int state = found == "nothing" ? 0 : std::stoi(found);
    CHECK(state >= safe);
    CHECK(state <= reached);
    log.commit();
    log.crash();
    CHECK(log.at(1) == found);
    if (all) break;
    REQUIRE(last < 1000);
  }
}
