// SPDX-License-Identifier: MIT
// Lives of a volume with little space: a simulated kernel with a writeback cache on top of the real
// LowSpace, DeferredReplies and filesystem. Writers, the kernel's write-back, stalls, allocations,
// removals and commits interleave as the seed says.
//
// The promise (limit 5 of README.md): what write(2) accepted is stored, unless the file has
// preallocated space, or got a write longer than 1 MiB, one that stalled for kStoringFor, or a
// store through a mapping.
#include "fs/fuse/low_space.h"

#include <map>
#include <memory>
#include <set>
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
constexpr uint64_t kPage = 4096;
/// The limit of the simulated kernel, and the one that LowSpace knows. Writers exceed the kernel's
/// limit a little before they have to wait (fs/daemon/page_cache.cc).
constexpr uint64_t kKernelLimit = 4 * kMiB, kLimit = 5 * kMiB;
/// What write(2) copies before others run; the most pages in one request.
constexpr uint64_t kPagesAtOnce = 16, kPagesOfRequest = fs::fuse::kMaxWriteBytes / kPage;
constexpr int kFlags = 2;  // O_RDWR

struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Kernel final : public fs::fuse::KernelCache {
 public:
  Kernel(Scheduler& scheduler, Runtime& runtime, fs::Filesystem& filesystem)
      : scheduler_(scheduler),
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
      if (!write_some(ino)) runtime_.sleep(std::chrono::microseconds(100));
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
  /// A cached write. `stall`: before its first byte is stored. False: ENOSPC.
  bool write(uint64_t ino, pid_t thread, uint64_t offset, uint64_t length, Nanoseconds stall) {
    Nanoseconds answered = runtime_.now();
    if (!inodes_[ino].knows_attributes && !ask(ino, thread, answered)) return false;
    runtime_.sleep(stall);
    if (length > fs::fuse::kMaxWriteBytes) inodes_[ino].is_promised = false;
    store(ino, offset, length, answered + SpaceReservations::kStoringFor);
    return true;
  }
  /// Stores through a mapping: without asking the filesystem.
  void map_and_store(uint64_t ino, uint64_t offset, uint64_t length) {
    Inode& inode = inodes_[ino];
    inode.is_promised = false;
    if (offset < inode.size)
      store(ino, offset, std::min(length, inode.size - offset), Nanoseconds::max());
  }
  /// A write with O_DIRECT. How many bytes were written.
  uint64_t write_directly(uint64_t ino, pid_t thread, uint64_t offset, uint64_t length) {
    Nanoseconds answered{0};
    if (!inodes_[ino].knows_attributes && !ask(ino, thread, answered)) return 0;
    write_back(ino);
    for (uint64_t done = 0; done < length;) {
      const uint64_t size = std::min<uint64_t>(fs::fuse::kMaxWriteBytes, length - done);
      if (!request(ino, thread, offset + done, size, false)) return done;
      done += size;
      inodes_[ino].size = std::max(inodes_[ino].size, offset + done);
    }
    return length;
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
      const auto done =
          filesystem_.allocate(InodeNumber(ino), fs::AllocateMode::allocate, offset, length, false);
      if (done) inodes_[ino].size = std::max(inodes_[ino].size, offset + length);
    };
    if (low_space_.take_if_plenty(thread, length, run)) return;
    defer([&] { low_space_.take_after_write_back(length, run); });
  }
  /// Some pages of one file, as the kernel does by itself from time to time.
  void flush_some() {
    std::vector<uint64_t> candidates;
    for (const auto& [ino, inode] : inodes_) {
      if (!inode.dirty.empty()) candidates.push_back(ino);
    }
    if (candidates.empty()) return;
    write_some(candidates[scheduler_.random(candidates.size())]);
  }
  void stop() { deferred_.stop(); }
  uint64_t size_of(uint64_t ino) { return inodes_[ino].size; }
  uint64_t dirty_pages() const { return dirty_pages_; }
  uint64_t refused() const { return refused_; }
  uint64_t lost() const { return lost_; }

 private:
  struct Inode {
    bool knows_attributes = false;
    bool is_promised = true;  ///< all that write(2) accepts will be stored
    uint64_t version = 0, size = 0;
    std::set<uint64_t> dirty;  ///< numbers of pages
    unsigned writing = 0;      ///< requests
  };

  /// Runs `job` on the deferred thread; the calling program waits for the reply.
  void defer(const std::function<void()>& job) {
    bool done = false;
    if (!deferred_.post([&] { job(), done = true; })) throw Broken("not accepted");
    while (!done) runtime_.sleep(std::chrono::microseconds(200));
  }
  /// GETATTR with the handle, before a write. `answered`: when.
  bool ask(uint64_t ino, pid_t thread, Nanoseconds& answered) {
    const uint64_t sent = inodes_[ino].version;
    bool granted = low_space_.reserve(ino, thread);
    answered = runtime_.now();
    if (!granted) {
      defer([&] {
        granted = low_space_.reclaim_and_reserve(ino, thread);
        answered = runtime_.now();
        // Perhaps granted only because it may go there.
        const auto bytes = filesystem_.preallocated_bytes(InodeNumber(ino), 0, fs::kMaxFileBytes);
        if (bytes.value() > 0) inodes_[ino].is_promised = false;
      });
    }
    if (granted) reply_attributes(ino, sent, true);
    if (!granted) ++refused_;
    return granted;
  }
  void reply_attributes(uint64_t ino, uint64_t sent, bool found) {
    const bool may = low_space_.attributes_may_be_cached(ino);
    if (found && may && inodes_[ino].version == sent) inodes_[ino].knows_attributes = true;
  }
  /// Makes pages dirty. The file is not promised if that goes on after `until`.
  void store(uint64_t ino, uint64_t offset, uint64_t length, Nanoseconds until) {
    const uint64_t first = offset / kPage, end = round_up(offset + length, kPage) / kPage;
    for (uint64_t at = first; at < end; at += kPagesAtOnce) {
      while (dirty_pages_ * kPage >= kKernelLimit) runtime_.sleep(std::chrono::microseconds(500));
      Inode& inode = inodes_[ino];
      if (runtime_.now() >= until) inode.is_promised = false;
      const uint64_t stop = std::min(at + kPagesAtOnce, end);
      for (uint64_t page = at; page < stop; ++page) {
        if (inode.dirty.insert(page).second) ++dirty_pages_;
      }
      inode.size = std::max(inode.size, std::min(stop * kPage, offset + length));
      if (scheduler_.chance(0.2)) runtime_.sleep(std::chrono::microseconds(scheduler_.random(300)));
    }
  }
  /// Writes back adjacent pages. False if there are none.
  bool write_some(uint64_t ino) {
    Inode& inode = inodes_[ino];
    if (inode.dirty.empty()) return false;
    const uint64_t first = *inode.dirty.begin();
    uint64_t end = first;
    while (end < first + kPagesOfRequest && inode.dirty.erase(end) != 0) ++end;
    ++inode.writing;
    const bool stored =
        request(ino, 0, first * kPage, std::min(end * kPage, inode.size) - first * kPage, true);
    --inode.writing;
    dirty_pages_ -= end - first;
    if (!stored && inode.is_promised) throw Broken("an accepted write is lost: no space");
    if (!stored) ++lost_;
    return true;
  }
  /// FUSE_WRITE, as op_content.cc does it. False: ENOSPC.
  bool request(uint64_t ino, pid_t thread, uint64_t offset, uint64_t length, bool cached) {
    const auto taken = low_space_.begin_store({ino, offset, length, cached, thread});
    if (!taken) return false;
    const std::vector<std::byte> bytes(length, std::byte{1});
    fs::WriteFlags flags;
    flags.keep_times = cached;
    const auto written = filesystem_.write(InodeNumber(ino), offset, bytes, flags);
    opens_.wrote(ino);
    low_space_.end_store(taken.value());
    if (!written && written.error() != Errc::no_space) throw Broken(written.error().message());
    return bool(written);
  }

  Scheduler& scheduler_;
  Runtime& runtime_;
  fs::Filesystem& filesystem_;
  WriteOpens opens_;
  std::map<uint64_t, Inode> inodes_;
  uint64_t dirty_pages_ = 0, refused_ = 0, lost_ = 0;
  LowSpace low_space_;
  fs::fuse::DeferredReplies deferred_;
};

struct Outcome {
  uint64_t refused = 0, lost = 0, left_bytes = 0, trace = 0;
};

class FullLife {
 public:
  /// `rude`: some programs store more than they were promised.
  FullLife(uint64_t seed, bool rude)
      : rude_(rude), scheduler_(seed), runtime_(scheduler_), devices_(scheduler_) {}

  static Outcome run(uint64_t seed, bool rude = false) {
    auto life = std::make_unique<FullLife>(seed, rude);
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
    fill_all_but((scheduler_.random(rude_ ? 3 : 3 * kLimit / kMiB) + 2) * kMiB);
    kernel_ = std::make_unique<Kernel>(scheduler_, runtime_, mount_->filesystem());
    if (rude_) know_what_the_kernel_holds();
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
    if (kernel_->dirty_pages() != 0) throw Broken("dirty pages are left");
    kernel_.reset();
    expect(mount_->close(), "close");
    mount_.reset();
  }

  /// Space is low. Longer than kStoringFor later, a write that asks has everything written back.
  void know_what_the_kernel_holds() {
    runtime_.sleep(2 * SpaceReservations::kStoringFor);
    const uint64_t ino = kernel_->create("first");
    if (ino == 0) throw Broken("no space for an inode");
    kernel_->write(ino, 99, 0, 1, Nanoseconds(0));
    kernel_->close(ino);
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
    const uint64_t lazy_us = scheduler_.chance(0.5) ? 2000 : 200'000;
    while (!stopping_) {
      kernel_->flush_some();
      const bool is_busy = kernel_->dirty_pages() * kPage > kKernelLimit / 2;
      runtime_.sleep(std::chrono::microseconds(scheduler_.random(is_busy ? 2000 : lazy_us)));
    }
  }

  /// Mostly short. Sometimes a page of the program comes from a slow device.
  Nanoseconds stall(bool rude) {
    if (scheduler_.chance(0.9)) return Nanoseconds(scheduler_.random(50'000));
    return std::chrono::milliseconds(scheduler_.random(rude ? 3000 : 600));
  }

  void write_files(int number) {
    for (int file = 0; file < 4; ++file) {
      const std::string name = "f" + std::to_string(number) + "." + std::to_string(file);
      const uint64_t ino = kernel_->create(name);
      if (ino == 0) {
        runtime_.sleep(std::chrono::milliseconds(50));
        continue;
      }
      const bool rude = rude_ && scheduler_.chance(0.4);
      for (uint64_t n = 5 + scheduler_.random(25); n > 0; --n)
        do_something(ino, 100 + number, rude);
      kernel_->close(ino);
      if (scheduler_.chance(0.8)) kernel_->unlink(name, ino);
    }
  }

  void do_something(uint64_t ino, pid_t thread, bool rude) {
    const uint64_t dice = scheduler_.random(100), end = kernel_->size_of(ino);
    const uint64_t offset = end == 0 || scheduler_.chance(0.7) ? end : scheduler_.random(end);
    const uint64_t longest = scheduler_.chance(0.3) ? 2 * kPage : kMiB;
    const uint64_t length = scheduler_.chance(0.5) ? longest : 1 + scheduler_.random(longest);
    if (dice < 60) {
      kernel_->write(ino, thread, offset, rude ? 3 * length : length, stall(rude));
    } else if (dice < 68) {
      if (rude) kernel_->map_and_store(ino, offset, length);
      if (!rude) kernel_->write_directly(ino, thread, round_down(offset, kPage), 3 * length);
    } else if (dice < 76) {
      // All that a commit makes free, often.
      const uint64_t free = mount_->filesystem().statistics().value().available_bytes;
      const uint64_t left = scheduler_.random(kMiB / 2);
      const bool takes_all = scheduler_.chance(0.5) && free > left;
      kernel_->fallocate(ino, thread, end, takes_all ? free - left : kMiB / 2);
    } else if (dice < 82) {
      kernel_->write_back(ino);
      (void)mount_->filesystem().sync(InodeNumber(ino));
    } else if (dice < 88) {
      kernel_->stat(ino);
    } else {
      kernel_->close(ino);
      runtime_.sleep(std::chrono::milliseconds(scheduler_.random(50)));
      kernel_->reopen(ino);
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

  const bool rude_;
  Scheduler scheduler_;
  SimRuntime runtime_;
  SimDevices devices_;
  std::unique_ptr<fs::Mount> mount_;
  std::unique_ptr<Kernel> kernel_;
  bool stopping_ = false;
  Outcome outcome_;
};

}  // namespace

TEST_CASE("writes that write(2) accepted while space is low are stored") {
  uint64_t refused = 0;
  for (uint64_t seed = 1; seed <= 400; ++seed) {
    const Outcome outcome = FullLife::run(seed);
    refused += outcome.refused;
    // Less than a reservation, and what may lie beside it in blocks that are partly used.
    CHECK(outcome.left_bytes < 2 * SpaceReservations::kBytes);
  }
  CHECK(refused > 0);
}

TEST_CASE("writes that store more than was reserved take nothing from others") {
  uint64_t lost = 0;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
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
