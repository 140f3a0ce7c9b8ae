// SPDX-License-Identifier: MIT
// For tests of the engine: a toy filesystem (FakeHost) on a real Volume over devices in memory, and
// a mount of it (Machine) that can be stopped, crashed and mounted again.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "alloc/base/checksum.h"
#include "alloc/volume/volume_test_util.h"
#include "replace/engine.h"

namespace moltfs::replace::test {

/// Has extents with random content and a few nodes. Keeps in memory what each commit made durable.
class FakeHost final : public Host {
 public:
  struct State {
    std::map<LogicalOffset, AllocatedExtent> extents;
    std::map<LogicalOffset, std::pair<Generation, uint64_t>> nodes;  // birth, checksum
  };
  /// By generation of the superblock that reaches it. Survives the mounts.
  using History = std::map<Generation, State>;

  FakeHost(alloc::Volume& volume, History& history) : volume_(volume), history_(history) {
    const Generation durable = volume.superblock().generation;
    running_ = durable + 1;
    state_ = history[durable];
    std::map<LogicalOffset, uint64_t> used;
    const auto map = volume.mapper().current();
    for (const auto& [at, extent] : state_.extents) {
      used[map->chunk_of({at, extent.length})->start] += extent.length;
    }
    for (const auto& [chunk, bytes] : used) volume.space().set_data_used(chunk, bytes);
    for (const auto& [at, node] : state_.nodes) volume.space().mark_node(at, node.first);
    volume.space().set_allocated_source(&source_);
  }

  // ---- What users do. Safe from any task.

  /// A new extent of `length` bytes (or less) with random content.
  Result<LogicalOffset> write(uint64_t length, std::mt19937& random) {
    Generation running;
    {
      std::lock_guard lock(mutex_);
      running = running_;
    }
    TRY(auto range, volume_.space().allocate_data(length, running));
    AlignedBuffer bytes(range.length);
    fill(bytes.span(), random);
    AllocatedExtent extent;
    extent.start = range.start;
    extent.length = range.length;
    extent.inode = 7;
    for (uint64_t at = 0; at < range.length; at += kBlockSize) {
      extent.checksums.push_back(checksum_of(bytes.span().subspan(at, kBlockSize)));
    }
    const alloc::MapGuard guard = volume_.acquire_map();
    const alloc::LogicalWrite write{range.start, bytes.span()};
    auto written = volume_.write(guard, {&write, 1});
    if (!written) {
      volume_.space().cancel_data(range);
      return written.error();
    }
    std::lock_guard lock(mutex_);
    extent.birth = running_;
    state_.extents[range.start] = extent;
    volume_.space().record_data(range);
    return range.start;
  }
  /// Frees the extent at or after a random place; false if there is none.
  bool remove(std::mt19937& random) {
    std::lock_guard lock(mutex_);
    if (state_.extents.empty()) return false;
    auto victim =
        std::next(state_.extents.begin(), static_cast<long>(random() % state_.extents.size()));
    free_locked(victim);
    return true;
  }
  void remove_at(LogicalOffset at) {
    std::lock_guard lock(mutex_);
    free_locked(state_.extents.find(at));
  }
  void remove_all() {
    std::lock_guard lock(mutex_);
    while (!state_.extents.empty()) free_locked(state_.extents.begin());
  }
  /// A node, written by the next commit.
  Result<LogicalOffset> add_node(std::mt19937& random) {
    TRY(auto reservation, volume_.space().reserve_nodes(1, alloc::ReserveClass::normal, running()));
    AlignedBuffer bytes(kNodeSize);
    fill(bytes.span(), random);
    std::lock_guard lock(mutex_);
    const LogicalOffset at = volume_.space().allocate_node(reservation, running_);
    state_.nodes[at] = {running_, checksum_of(bytes.span())};
    dirty_.emplace_back(at, std::move(bytes));
    return at;
  }

  // ---- Host

  Result<std::vector<AllocatedExtent>> allocated_in(LogicalRange range) override {
    if (on_list) on_list(range);
    if (fail_listing) return Error(Errc::bad_node);
    std::vector<AllocatedExtent> found;
    std::lock_guard lock(mutex_);
    for (const auto& [at, extent] : state_.extents) {
      if (!range.overlaps({at, extent.length})) continue;
      found.push_back(clipped(extent, range));
    }
    for (const auto& node : volume_.space().nodes_in(range)) {
      AllocatedExtent extent;
      extent.start = node.address;
      extent.length = kNodeSize;
      extent.birth = node.birth;
      extent.is_node = true;
      found.push_back(std::move(extent));
    }
    return found;
  }
  bool matches(const AllocatedExtent& extent, ConstBytes bytes, uint64_t& first_bad) override {
    if (extent.is_node) {
      std::lock_guard lock(mutex_);
      first_bad = 0;
      auto node = state_.nodes.find(extent.start);
      return node != state_.nodes.end() && node->second.second == checksum_of(bytes);
    }
    for (uint64_t at = 0; at < extent.length; at += kBlockSize) {
      first_bad = at;
      if (checksum_of(bytes.subspan(at, kBlockSize)) != extent.checksums[at / kBlockSize]) {
        return false;
      }
    }
    return true;
  }
  Result<Generation> commit() override {
    std::lock_guard one_at_a_time(commit_mutex_);
    if (fail_commits || fatal_) return Error(Errc::io_error, "the commit was made to fail");
    fatal_ = true;  // unless all of this succeeds
    std::unique_lock lock(mutex_);
    const Generation closing = running_;
    auto sealed = volume_.seal(closing);
    ++running_;
    auto dirty = std::move(dirty_);
    dirty_.clear();
    State snapshot = state_;
    lock.unlock();
    history_[closing] = std::move(snapshot);
    {
      const alloc::MapGuard guard = volume_.acquire_map();
      for (auto& [at, bytes] : dirty) {
        const alloc::LogicalWrite write{at, bytes.span()};
        TRY(volume_.write(guard, {&write, 1}));
      }
    }
    TRY(volume_.finish_commit(sealed, {}));
    volume_.free_removed(sealed);
    fatal_ = false;
    return closing;
  }
  Generation running() override {
    std::lock_guard lock(mutex_);
    return running_;
  }
  bool programs_are_at_work() override { return programs_at_work; }
  std::string name_of(const AllocatedExtent& extent) override {
    return extent.is_node ? "a node" : "/file at " + std::to_string(extent.file_offset);
  }

  State state() const {
    std::lock_guard lock(mutex_);
    return state_;
  }

  std::function<void(LogicalRange)> on_list;
  std::atomic<bool> fail_listing{false}, fail_commits{false};
  std::atomic<bool> programs_at_work{false};

 private:
  struct Source final : alloc::AllocatedSource {
    explicit Source(FakeHost& h) : host(h) {}
    Result<std::vector<LogicalRange>> allocated_in(LogicalRange chunk) override {
      std::vector<LogicalRange> ranges;
      std::lock_guard lock(host.mutex_);
      for (const auto& [at, extent] : host.state_.extents) {
        if (chunk.overlaps({at, extent.length})) ranges.push_back({at, extent.length});
      }
      return ranges;
    }
    FakeHost& host;
  };

  static void fill(Bytes bytes, std::mt19937& random) {
    for (size_t i = 0; i < bytes.size(); i += 4) {
      const uint32_t word = static_cast<uint32_t>(random());
      std::memcpy(bytes.data() + i, &word, 4);
    }
  }
  static AllocatedExtent clipped(const AllocatedExtent& extent, LogicalRange range) {
    const LogicalOffset first = std::max(extent.start, range.start);
    const LogicalOffset last = std::min(extent.start + extent.length, range.end());
    AllocatedExtent part = extent;
    part.start = first;
    part.length = last - first;
    part.file_offset += first - extent.start;
    const auto from =
        extent.checksums.begin() + static_cast<long>((first - extent.start) / kBlockSize);
    part.checksums.assign(from, from + static_cast<long>(part.length / kBlockSize));
    return part;
  }
  void free_locked(std::map<LogicalOffset, AllocatedExtent>::iterator victim) {
    volume_.space().free_data({victim->first, victim->second.length}, victim->second.birth,
                              running_);
    state_.extents.erase(victim);
  }

  alloc::Volume& volume_;
  History& history_;
  Source source_{*this};
  std::mutex commit_mutex_;
  bool fatal_ = false;  // guarded by commit_mutex_
  mutable std::mutex mutex_;
  Generation running_;
  State state_;
  std::vector<std::pair<LogicalOffset, AlignedBuffer>> dirty_;
};

using alloc::test::TestDisks;
using moltfs::test::kMiB;
using moltfs::test::must;

/// Devices, and one mount of the toy filesystem at a time.
class Machine : public TestDisks {
 public:
  using TestDisks::TestDisks;
  ~Machine() { power_off(); }

  void make(const std::string& path, uint64_t chunk_size = 4 * kMiB) {
    alloc::Volume::CreateOptions how;
    how.chunk_size = chunk_size;
    volume = must(create({path}, how));
    bring_up();
    must(host->commit());
  }
  /// Copies of everything on several devices.
  void make_mirror(const std::vector<std::string>& paths,
                   alloc::Profile profile = alloc::Profile::raid1) {
    alloc::Volume::CreateOptions how;
    how.chunk_size = 4 * kMiB;
    how.data_profile = how.metadata_profile = profile;
    volume = must(create(paths, how));
    bring_up();
    must(host->commit());
  }
  /// Errors of Volume::open.
  Result<void> mount(const std::string& path, const std::vector<std::string>& hints = {},
                     bool read_only = false, bool abandon_swap = false) {
    alloc::Volume::OpenOptions how;
    how.read_only = read_only;
    how.hints = hints;
    how.abandon_swap = abandon_swap;
    how.degraded = degraded;
    TRY(volume, open({path}, how));
    bring_up();
    TRY(engine->restore(hints, read_only));
    return ok();
  }
  void unmount() {
    engine->stop();
    host->commit().value();
    power_off();
  }
  /// Ends the mount as a crash does: nothing more is written; what was written stays.
  void power_off() {
    if (!volume) return;
    devices.set_hook(
        [](const alloc::IoRequest&) -> Result<void> { return Error(Errc::device_gone); });
    engine.reset();
    background.reset();
    host.reset();
    volume.reset();
    devices.set_hook({});
  }

  /// Random content: extents of 4 KiB to 256 KiB, some freed again, some nodes; committed.
  void populate(uint64_t bytes, std::mt19937& random) {
    for (uint64_t done = 0; done < bytes;) {
      const uint64_t length = (1 + random() % 64) * kBlockSize;
      host->write(length, random).value();
      done += length;
      if (random() % 4 == 0) host->remove(random);
    }
    for (int i = 0; i < 20; ++i) host->add_node(random).value();
    host->commit().value();
    host->commit().value();
  }

  Status wait() {
    return engine->wait([] { return false; });
  }

  /// True if every extent and node of the running state reads back right, in every copy that is on
  /// devices that are in.
  bool content_is_right() {
    const auto state = host->state();
    const auto guard = volume->acquire_map();
    auto right = [&](LogicalOffset at, uint64_t length, const std::vector<uint64_t>& checksums,
                     uint64_t unit) {
      AlignedBuffer bytes(unit);
      for (uint64_t o = 0; o < length; o += unit) {  // an extent may lie in several columns
        unsigned read = 0;
        for (unsigned copy = 0; copy < volume->copies_at(guard, at + o); ++copy) {
          if (!guard.map().has_copy(at + o, copy)) continue;  // its device is out
          if (!volume->read(guard, at + o, bytes.span(), copy)) return false;
          if (checksum_of(bytes.span()) != checksums[o / unit]) return false;
          ++read;
        }
        if (read == 0) return false;
      }
      return true;
    };
    for (const auto& [at, extent] : state.extents) {
      if (!right(at, extent.length, extent.checksums, kBlockSize)) return false;
    }
    for (const auto& [at, node] : state.nodes) {
      if (!right(at, kNodeSize, {node.second}, kNodeSize)) return false;
    }
    return true;
  }

  /// R6: destroys the source. True if the target alone mounts and has everything.
  bool target_alone_is_right(const std::string& source, const std::string& target) {
    unmount();
    devices.remove(source);
    if (!mount(target)) return false;
    return content_is_right();
  }

  FakeHost::History history;
  Engine::Options options = quick();
  unsigned workers = 4;
  bool degraded = false;  // mount() goes on without missing devices
  std::unique_ptr<alloc::Volume> volume;
  std::unique_ptr<FakeHost> host;
  std::unique_ptr<Background> background;
  std::unique_ptr<Engine> engine;

 private:
  static Engine::Options quick() {
    Engine::Options options;
    options.window_bytes = kMiB;
    options.windows_in_flight = 3;
    options.commit_interval = std::chrono::milliseconds(2);
    options.retry_pauses = {std::chrono::milliseconds(1), std::chrono::milliseconds(2)};
    return options;
  }
  void bring_up() {
    host = std::make_unique<FakeHost>(*volume, history);
    background = std::make_unique<Background>(runtime, workers);
    engine = std::make_unique<Engine>(*volume, *host, *background, options);
  }
};

}  // namespace moltfs::replace::test
