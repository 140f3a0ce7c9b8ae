// SPDX-License-Identifier: MIT
// How often an operation on content takes the lock of the transactions, which limits how the
// filesystem scales. This program puts its own pthread_mutex_lock before the C library's and counts
// there, so counting costs the product nothing.
#include <dlfcn.h>
#include <pthread.h>

#include <algorithm>
#include <vector>

#include "fs/content/content_test_util.h"

#if defined(__SANITIZE_THREAD__)
#define MOLTFS_CANNOT_COUNT 1  // the sanitizer has its own pthread_mutex_lock
#endif

namespace {

/// If not null: gets the mutexes that this thread locks.
thread_local std::vector<const void*>* locked = nullptr;

}  // namespace

#ifndef MOLTFS_CANNOT_COUNT
extern "C" int pthread_mutex_lock(pthread_mutex_t* mutex) {
  using Lock = int (*)(pthread_mutex_t*);
  static Lock next = nullptr;
  if (next == nullptr) next = reinterpret_cast<Lock>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  if (locked != nullptr) locked->push_back(mutex);
  return next(mutex);
}
#endif

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

template <class F>
std::vector<const void*> mutexes_locked_by(const F& operation) {
  std::vector<const void*> seen;
  seen.reserve(10'000);
  locked = &seen;
  operation();
  locked = nullptr;
  return seen;
}

/// Counts acquisitions of one mutex of the transactions, which it finds by a call that takes
/// no other.
class LockCounter {
 public:
  explicit LockCounter(const Transactions& transactions) {
    const auto seen = mutexes_locked_by([&] { (void)transactions.has_changes(); });
    REQUIRE(seen.size() == 1);
    lock_ = seen.front();
  }

  template <class F>
  size_t count(const F& operation) const {
    const auto seen = mutexes_locked_by(operation);
    return static_cast<size_t>(std::count(seen.begin(), seen.end(), lock_));
  }

 private:
  const void* lock_ = nullptr;
};

}  // namespace

TEST_CASE("a write takes the lock of the transactions twice, a read once") {
#ifdef MOLTFS_CANNOT_COUNT
  WARN("not counted under this sanitizer");
#else
  TestFiles world;
  const LockCounter counter(*world.transactions);
  const InodeNumber ino = world.make_file("a");
  AlignedBuffer buffer(16 * kBlockSize);
  buffer.fill_zero();
  const auto write = [&](uint64_t offset, uint64_t length) {
    return counter.count([&] { world.write(ino, offset, buffer.span().first(length)); });
  };
  const auto read = [&](uint64_t offset, uint64_t length) {
    return counter.count(
        [&] { REQUIRE(world.filesystem->read(ino, offset, buffer.span().first(length))); });
  };
  // Inline, leaving that state, growing by whole blocks and by less.
  CHECK(write(0, 100) == 2);
  CHECK(read(0, 100) == 1);
  CHECK(write(0, 16 * kBlockSize) == 2);
  CHECK(write(16 * kBlockSize, kBlockSize) == 2);
  CHECK(write(17 * kBlockSize + 10, 100) == 2);
  CHECK(write(17 * kBlockSize + 110, 100) == 2);
  // Overwriting.
  CHECK(write(4 * kBlockSize, kBlockSize) == 2);
  CHECK(write(4 * kBlockSize + 10, 100) == 2);
  // Whole blocks, a part of a block, the tail of the file.
  CHECK(read(0, 16 * kBlockSize) == 1);
  CHECK(read(10, 100) == 1);
  CHECK(read(17 * kBlockSize, 16 * kBlockSize) == 1);
  // An append must know the end of the file before it can lock.
  const size_t append = counter.count([&] {
    WriteFlags flags;
    flags.append = true;
    REQUIRE(world.filesystem->write(ino, 0, buffer.span().first(kBlockSize), flags));
  });
  CHECK(append == 3);
#endif
}
