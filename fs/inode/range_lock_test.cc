// SPDX-License-Identifier: MIT
// Range locks: who waits for whom.
#include "fs/inode/range_lock.h"

#include <atomic>
#include <vector>

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs;

namespace {

constexpr InodeNumber kFile{7};

class Fixture {
 public:
  /// Takes the lock in a task of its own, sets `got`, holds it until release().
  struct Holder {
    std::atomic<bool> got{false}, release{false};
    std::unique_ptr<Task> task;
  };
  std::unique_ptr<Holder> start(bool exclusive, uint64_t first, uint64_t end,
                                InodeNumber ino = kFile) {
    auto holder = std::make_unique<Holder>();
    Holder& h = *holder;
    holder->task = runtime.spawn("holder", [this, &h, exclusive, first, end, ino] {
      const RangeLock lock =
          exclusive ? locks.exclusive(ino, first, end) : locks.shared(ino, first, end);
      h.got = true;
      while (!h.release) runtime.sleep(std::chrono::microseconds(100));
    });
    for (int i = 0; i < 300 && !h.got; ++i) runtime.sleep(std::chrono::microseconds(100));
    return holder;
  }
  void finish(Holder& holder) {
    holder.release = true;
    holder.task->join();
  }
  bool comes(Holder& holder) {
    for (int i = 0; i < 20000 && !holder.got; ++i) runtime.sleep(std::chrono::microseconds(100));
    return holder.got;
  }

  RealRuntime runtime;
  RangeLocks locks{runtime};
};

}  // namespace

TEST_CASE_METHOD(Fixture, "readers share, writers exclude") {
  auto reader = start(false, 0, 8192);
  auto second = start(false, 4096, 12288);
  CHECK(reader->got);
  CHECK(second->got);
  auto writer = start(true, 8192, 16384);
  CHECK_FALSE(writer->got);
  finish(*reader);
  CHECK_FALSE(writer->got);
  finish(*second);
  CHECK(comes(*writer));
  finish(*writer);
}

TEST_CASE_METHOD(Fixture, "disjoint ranges and other inodes do not meet") {
  auto a = start(true, 0, 4096);
  auto b = start(true, 4096, 8192);
  auto c = start(true, 0, RangeLocks::kToEnd, InodeNumber{8});
  CHECK(a->got);
  CHECK(b->got);
  CHECK(c->got);
  for (auto* holder : {a.get(), b.get(), c.get()}) finish(*holder);
}

TEST_CASE_METHOD(Fixture, "first come, first served: a waiting truncate is not starved") {
  auto reader = start(false, 0, 4096);
  auto truncate = start(true, 0, RangeLocks::kToEnd);
  auto late = start(false, 0, 4096);
  CHECK(reader->got);
  CHECK_FALSE(truncate->got);
  CHECK_FALSE(late->got);
  finish(*reader);
  CHECK(comes(*truncate));
  CHECK_FALSE(late->got);
  finish(*truncate);
  CHECK(comes(*late));
  finish(*late);
}

TEST_CASE_METHOD(Fixture, "locks move") {
  RangeLock lock = locks.exclusive(kFile, 0, 10);
  RangeLock other = std::move(lock);
  lock.unlock();  // nothing
  auto waiter = start(true, 0, 10);
  CHECK_FALSE(waiter->got);
  other = RangeLock();
  CHECK(comes(*waiter));
  finish(*waiter);
}

TEST_CASE_METHOD(Fixture, "many tasks count under the lock without losing one") {
  std::vector<uint64_t> cells(8);
  std::vector<std::unique_ptr<Task>> tasks;
  for (uint64_t t = 0; t < 4; ++t) {
    tasks.push_back(runtime.spawn("counter", [&, t] {
      for (uint64_t i = 0; i < 2000; ++i) {
        const uint64_t first = (i * 7 + t) % cells.size();
        const uint64_t end = first + 1 + i % (cells.size() - first);
        const RangeLock lock = locks.exclusive(kFile, first, end);
        for (uint64_t c = first; c < end; ++c) ++cells[c];
      }
    }));
  }
  for (auto& task : tasks) task->join();
  uint64_t total = 0, expected = 0;
  for (uint64_t cell : cells) total += cell;
  for (uint64_t t = 0; t < 4; ++t) {
    for (uint64_t i = 0; i < 2000; ++i) {
      const uint64_t first = (i * 7 + t) % cells.size();
      expected += 1 + i % (cells.size() - first);
    }
  }
  CHECK(total == expected);
}
