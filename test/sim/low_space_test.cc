// SPDX-License-Identifier: MIT
// Lives of a volume with little space: a simulated kernel with a writeback cache on top of the real
// LowSpace, DeferredReplies and filesystem. Writers, the kernel's write-back, stalls, allocations,
// removals and commits interleave as the seed says.
//
// The promise (fs/fuse/space_reservations.h): what write(2) accepted, at most 1 MiB at a time, is
// stored, if the write did not stall for kStoringFor.
#include "fs/fuse/low_space.h"

#include <deque>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "fs/fuse/deferred_replies.h"
#include "fs/mount/mount.h"
#include "test/sim/scheduler.h"
#include "test/sim/sim_disk.h"
#include "test/support/catch.h"

namespace moltfs::sim {
namespace {

using fs::fuse::LowSpace;
using fs::fuse::SpaceReservations;
using fs::fuse::WriteOpens;

constexpr uint64_t kMiB = 1 << 20;
/// The kernel keeps to the first; LowSpace is told the second. Writers pass the kernel's limit by a
/// little before they are made to wait (fs/daemon/page_cache.cc).
constexpr uint64_t kKernelLimit = 4 * kMiB, kLimit = 10 * kMiB;
constexpr uint64_t kPiece = 64 << 10;
constexpr int kFlags = 2;  // O_RDWR

struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Kernel final : public fs::fuse::KernelCache {
 public:
  /// `may_lose`: a lost write does not end the life.
  Kernel(Scheduler& scheduler, Runtime& runtime, fs::Filesystem& filesystem, bool may_lose)
      : may_lose_(may_lose),
        scheduler_(scheduler),
        runtime_(runtime),
        filesystem_(filesystem),
        low_space_(filesystem, opens_, *this),
        deferred_(runtime) {
    deferred_.start();
    low_space_.set_limit(kLimit);
  }

  // ---- KernelCache
  void forget_attributes(uint64_t ino) override {
    Inode& inode = inodes_[ino];
    ++inode.version;
    inode.knows_attributes = false;
  }
  void forget_blocks(uint64_t) override {}
  void drop(uint64_t, uint64_t, size_t) override {}
  void write_back(uint64_t ino) override {
    while (!inodes_[ino].dirty.empty() || inodes_[ino].writing > 0) {
      if (!write_one(ino)) runtime_.sleep(std::chrono::microseconds(100));
    }
  }

  // ---- What programs do. `thread`: its number.
  /// Nothing if there is no space for the inode.
  uint64_t create(const std::string& name) {
    auto made = filesystem_.make(fs::kRootInode, name, 0100644, 0, {});
    if (!made) return 0;
    const uint64_t ino = made.value().ino.value;
    opens_.opened(ino, kFlags);
    inodes_[ino].knows_attributes = low_space_.attributes_may_be_cached(ino);  // it always believes
    low_space_.attributes_are_cached(ino);
    return ino;
  }
  void reopen(uint64_t ino) {
    opens_.opened(ino, kFlags);
    low_space_.opened(ino);
  }
  /// False: ENOSPC.
  bool write(uint64_t ino, pid_t thread, uint64_t offset, uint64_t length, Nanoseconds stall) {
    if (!inodes_[ino].knows_attributes && !ask(ino, thread)) return false;
    const Nanoseconds answered = runtime_.now();
    runtime_.sleep(stall);
    for (uint64_t at = 0; at < length; at += kPiece) {
      while (dirty_bytes_ >= kKernelLimit) runtime_.sleep(std::chrono::microseconds(500));
      const bool in_time = runtime_.now() - answered < SpaceReservations::kStoringFor;
      const uint64_t size = std::min(kPiece, length - at);
      inodes_[ino].dirty.push_back({offset + at, size, in_time});
      dirty_bytes_ += size;
      if (scheduler_.chance(0.2)) runtime_.sleep(std::chrono::microseconds(scheduler_.random(300)));
    }
    return true;
  }
  void stat(uint64_t ino) {
    const uint64_t sent = inodes_[ino].version;
    const bool found = bool(filesystem_.attributes(InodeNumber(ino)));
    reply_attributes(ino, sent, found);
  }
  void close(uint64_t ino) {
    write_back(ino);
    opens_.released(ino, kFlags);
    if (!opens_.is_open(ino)) low_space_.closed(ino);
  }
  /// REQUIRES: closed. The kernel forgets the inode a little later.
  void unlink(const std::string& name, uint64_t ino) {
    const auto unlinked = filesystem_.unlink(fs::kRootInode, name);
    low_space_.removed();
    if (!unlinked && unlinked.error() != Errc::no_space) throw Broken("unlink failed");
    runtime_.sleep(std::chrono::milliseconds(scheduler_.random(300)));
    filesystem_.forget(InodeNumber(ino), 1);
  }
  void fallocate(uint64_t ino, pid_t thread, uint64_t offset, uint64_t length) {
    const auto run = [&] {
      (void)filesystem_.allocate(InodeNumber(ino), fs::AllocateMode::allocate, offset, length,
                                 false);
    };
    if (low_space_.may_take(thread)) return run();
    defer([&] { low_space_.take_after_write_back(run); });
  }
  /// Some pages of one file, as the kernel does by itself from time to time.
  void flush_some() {
    std::vector<uint64_t> candidates;
    for (const auto& [ino, inode] : inodes_) {
      if (!inode.dirty.empty()) candidates.push_back(ino);
    }
    if (candidates.empty()) return;
    const uint64_t ino = candidates[scheduler_.random(candidates.size())];
    for (uint64_t n = 1 + scheduler_.random(8); n > 0 && write_one(ino); --n) {
    }
  }
  void stop() { deferred_.stop(); }
  uint64_t dirty_bytes() const { return dirty_bytes_; }
  uint64_t refused() const { return refused_; }
  uint64_t lost() const { return lost_; }

 private:
  struct Dirty {
    uint64_t offset, length;
    bool in_time;  // the write did not stall
  };
  struct Inode {
    bool knows_attributes = false;
    uint64_t version = 0;
    std::deque<Dirty> dirty;
    unsigned writing = 0;
  };

  /// Runs `job` on the deferred thread; the calling program waits for the reply.
  void defer(const std::function<void()>& job) {
    bool done = false;
    if (!deferred_.post([&] { job(), done = true; })) throw Broken("not accepted");
    while (!done) runtime_.sleep(std::chrono::microseconds(200));
  }
  /// GETATTR with the handle, before a write.
  bool ask(uint64_t ino, pid_t thread) {
    const uint64_t sent = inodes_[ino].version;
    bool granted = low_space_.reserve(ino, thread);
    if (!granted) defer([&] { granted = low_space_.reclaim_and_reserve(ino, thread); });
    if (granted) reply_attributes(ino, sent, true);
    if (!granted) ++refused_;
    return granted;
  }
  void reply_attributes(uint64_t ino, uint64_t sent, bool found) {
    const bool may = low_space_.attributes_may_be_cached(ino);
    if (found && may && inodes_[ino].version == sent) inodes_[ino].knows_attributes = true;
  }
  bool write_one(uint64_t ino) {
    Inode& inode = inodes_[ino];
    if (inode.dirty.empty()) return false;
    const Dirty dirty = inode.dirty.front();
    inode.dirty.pop_front();
    ++inode.writing;
    const std::vector<std::byte> bytes(dirty.length, std::byte{1});
    fs::WriteFlags flags;
    flags.keep_times = true;
    const auto written = filesystem_.write(InodeNumber(ino), dirty.offset, bytes, flags);
    opens_.wrote(ino);
    low_space_.wrote(ino, dirty.length, true);
    --inode.writing;
    dirty_bytes_ -= dirty.length;
    if (written) return true;
    if (written.error() != Errc::no_space) throw Broken(written.error().message());
    if (dirty.in_time && !may_lose_) throw Broken("an accepted write is lost: no space");
    ++lost_;
    return true;
  }

  const bool may_lose_;
  Scheduler& scheduler_;
  Runtime& runtime_;
  fs::Filesystem& filesystem_;
  WriteOpens opens_;
  std::map<uint64_t, Inode> inodes_;
  uint64_t dirty_bytes_ = 0, refused_ = 0, lost_ = 0;
  LowSpace low_space_;
  fs::fuse::DeferredReplies deferred_;
};

struct Outcome {
  uint64_t refused = 0, lost = 0, left_bytes = 0, trace = 0;
};

class FullLife {
 public:
  /// `stalls`: some writes stall for longer than is promised. Then they may be lost, and others too,
  /// as the late bytes take space that was given to those.
  FullLife(uint64_t seed, bool stalls)
      : stalls_(stalls), scheduler_(seed), runtime_(scheduler_), devices_(scheduler_) {}

  static Outcome run(uint64_t seed, bool stalls = false) {
    auto life = std::make_unique<FullLife>(seed, stalls);
    try {
      life->scheduler_.run([&] { life->body(); });
    } catch (const std::exception& e) {
      (void)life.release();  // a world that ended in the middle cannot be taken down
      throw Broken("seed " + std::to_string(seed) + ": " + e.what());
    }
    life->outcome_.trace = life->scheduler_.trace();
    return life->outcome_;
  }

 private:
  void expect(Result<void> result, const char* what) {
    if (!result) throw Broken(std::string(what) + ": " + result.error().message());
  }

  void body() {
    devices_.add("disk", 96 * kMiB);
    fs::MkfsOptions mkfs;
    mkfs.volume.chunk_size = kMiB;
    expect(fs::make_filesystem(runtime_, devices_, {"disk"}, mkfs), "mkfs");
    fs::Mount::Options options;
    options.commit_interval = std::chrono::milliseconds(20 + scheduler_.random(400));
    auto opened = fs::Mount::open(runtime_, devices_, {"disk"}, options);
    if (!opened) throw Broken("mount: " + opened.error().message());
    mount_ = std::move(opened).value();
    fill_all_but((scheduler_.random(3 * kLimit / kMiB) + 2) * kMiB);
    kernel_ = std::make_unique<Kernel>(scheduler_, runtime_, mount_->filesystem(), stalls_);
    std::vector<std::unique_ptr<Task>> tasks;
    const int writers = 2 + static_cast<int>(scheduler_.random(3));
    for (int i = 0; i < writers; ++i) {
      tasks.push_back(runtime_.spawn("writer" + std::to_string(i), [this, i] { write_files(i); }));
    }
    auto flusher = runtime_.spawn("flusher", [this] { flush(); });
    for (auto& task : tasks) task->join();
    see_what_is_left();
    stopping_ = true;
    flusher->join();
    kernel_->stop();
    outcome_.refused = kernel_->refused();
    outcome_.lost = kernel_->lost();
    if (kernel_->dirty_bytes() != 0) throw Broken("dirty pages are left");
    kernel_.reset();
    expect(mount_->close(), "close");
    mount_.reset();
  }

  void fill_all_but(uint64_t bytes) {
    auto& filesystem = mount_->filesystem();
    auto made = filesystem.make(fs::kRootInode, "filler", 0100644, 0, {});
    if (!made) throw Broken("make: " + made.error().message());
    for (uint64_t at = 0; filesystem.writable_bytes() > bytes; at += kMiB) {
      if (!filesystem.allocate(made.value().ino, fs::AllocateMode::allocate, at, kMiB, false))
        break;
    }
    expect(filesystem.commit(), "commit");
  }

  void flush() {
    while (!stopping_) {
      kernel_->flush_some();
      runtime_.sleep(std::chrono::microseconds(scheduler_.random(2000)));
    }
  }

  /// Mostly short. Sometimes a page of the program comes from a slow device.
  Nanoseconds stall() {
    if (scheduler_.chance(0.9)) return Nanoseconds(scheduler_.random(50'000));
    const uint64_t most = stalls_ && scheduler_.chance(0.5) ? 3000 : 600;
    return std::chrono::milliseconds(scheduler_.random(most));
  }

  void write_files(int number) {
    const pid_t thread = 100 + number;
    for (int file = 0; file < 4; ++file) {
      const std::string name = "f" + std::to_string(number) + "." + std::to_string(file);
      const uint64_t ino = kernel_->create(name);
      if (ino == 0) {
        runtime_.sleep(std::chrono::milliseconds(50));
        continue;
      }
      uint64_t end = 0;
      for (uint64_t n = 5 + scheduler_.random(25); n > 0; --n) {
        const uint64_t dice = scheduler_.random(100);
        if (dice < 78) {
          const bool appends = end == 0 || scheduler_.chance(0.7);
          const uint64_t offset = appends ? end : scheduler_.random(end);
          const uint64_t length = 1 + scheduler_.random(scheduler_.chance(0.3) ? 8192 : kMiB);
          if (kernel_->write(ino, thread, offset, length, stall())) {
            end = std::max(end, offset + length);
          }
        } else if (dice < 83) {
          kernel_->fallocate(ino, thread, end, (1 + scheduler_.random(4)) * kMiB / 2);
        } else if (dice < 88) {
          kernel_->write_back(ino);
          (void)mount_->filesystem().sync(InodeNumber(ino));
        } else if (dice < 93) {
          kernel_->stat(ino);
        } else if (dice < 97) {
          kernel_->close(ino);
          kernel_->reopen(ino);
        } else {
          runtime_.sleep(std::chrono::milliseconds(scheduler_.random(100)));
        }
      }
      kernel_->close(ino);
      if (scheduler_.chance(0.6)) kernel_->unlink(name, ino);
    }
  }

  /// A lone program writes until it is refused: then there must be little left.
  void see_what_is_left() {
    const pid_t thread = 99;
    const uint64_t ino = kernel_->create("last");
    if (ino == 0) return;
    for (uint64_t at = 0; kernel_->write(ino, thread, at, kMiB, Nanoseconds(0)); at += kMiB) {
      if (at > 96 * kMiB) throw Broken("a full volume accepts writes without end");
    }
    kernel_->close(ino);
    expect(mount_->filesystem().commit(), "commit");
    outcome_.left_bytes = mount_->filesystem().writable_bytes();
  }

  const bool stalls_;
  Scheduler scheduler_;
  SimRuntime runtime_;
  SimDevices devices_;
  std::unique_ptr<fs::Mount> mount_;
  std::unique_ptr<Kernel> kernel_;
  bool stopping_ = false;
  Outcome outcome_;
};

}  // namespace

TEST_CASE("what write(2) accepted while space is low is stored") {
  uint64_t refused = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const Outcome outcome = FullLife::run(seed);
    refused += outcome.refused;
    CHECK(outcome.lost == 0);
    // Less than a reservation, and what may lie beside it in blocks that are partly used.
    CHECK(outcome.left_bytes < 2 * SpaceReservations::kBytes);
  }
  CHECK(refused > 0);
}

TEST_CASE("a write that stalls for longer may be lost, but everything ends and no space stays") {
  uint64_t lost = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    const Outcome outcome = FullLife::run(seed, true);
    lost += outcome.lost;
    CHECK(outcome.left_bytes < 2 * SpaceReservations::kBytes);
  }
  CHECK(lost > 0);
}

TEST_CASE("the same seed gives the same life") {
  CHECK(FullLife::run(7).trace == FullLife::run(7).trace);
}

}  // namespace moltfs::sim
