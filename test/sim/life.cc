// SPDX-License-Identifier: MIT
// One life of a volume: see the header.
#include "test/sim/life.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <utility>

#include "alloc/disk/log_batch.h"
#include "alloc/disk/superblock.h"
#include "fs/check/check.h"
#include "fs/mount/mount.h"
#include "fs/tree/format.h"
#include "test/sim/clients.h"
#include "test/sim/historical_rule.h"
#include "test/sim/life_base.h"
#include "test/sim/rot.h"
#include "test/sim/scheduler.h"
#include "test/sim/sim_disk.h"

namespace moltfs::sim {

namespace {

using fs::Filesystem;

class Life final : public LifeBase {
 public:
  explicit Life(const LifeOptions& options) : LifeBase(options, options.seed % 2 != 0) {
    devices_.set_observer([this](const Disk& disk, DiskEvent event, uint64_t offset,
                                 ConstBytes bytes) { observe(disk, event, offset, bytes); });
    // Only while it is not a member: after the swap its faults would reach users.
    devices_.set_fault([this](Disk& disk, const alloc::IoRequest& request) -> Result<void> {
      if (fault_probability_ == 0 || disk.name != watched_) return ok();
      if (only_flushes_fail_ && request.op != alloc::IoOp::flush) return ok();
      if (chance(fault_probability_)) return Error(Errc::io_error);
      return ok();
    });
  }

 private:
  void add_results() override {
    if (rot_) result_.rotten = rot_->spoilt_count();
  }

  // ---- The whole life.
  void body() override {
    disk_bytes_ = (64 + random(3) * 16) << 20;
    devices_.add(member_, disk_bytes_);
    fs::MkfsOptions mkfs;
    if (chance(0.5)) mkfs.volume.chunk_size = (1 + random(2)) << 20;
    if (auto made = fs::make_filesystem(runtime_, devices_, {member_}, mkfs); !made) {
      fail("mkfs: {}", made.error().message());
    }
    const int client_count = 1 + static_cast<int>(random(3));
    clients_.add(client_count);
    clients_.fsyncs_much = chance(0.3);
    if (chance(0.3)) {
      devices_.set_hold([this](const Disk& disk, const alloc::IoRequest& request) {
        return hold(disk, request);
      });
    }
    if (options_.rot && chance(0.3)) rot_.emplace(scheduler_, devices_);
    first_mount();
    const uint64_t rounds = 1 + random(3);
    for (uint64_t round = 0; round < rounds; ++round) {
      one_round();
      if (after_cut_ && chance(0.5)) short_visit();
    }
    last_round();
  }

  /// Some of the target's writes take very long, so that much can happen to what they copy.
  Nanoseconds hold(const Disk& disk, const alloc::IoRequest& request) {
    if (disk.name != watched_ || request.op != alloc::IoOp::write || !chance(0.02)) return {};
    return std::chrono::milliseconds(random(1500));
  }

  void first_mount() {
    open_mount();
    clients_.make_directories();
    if (rot_) rot_->make(mount_->filesystem(), devices_.disk(member_));
    close_mount();
  }

  /// Mounts the member, which is one of the two devices; offers them in random order.
  void open_mount() {
    auto options = mount_options();
    options.replace.window_bytes = uint64_t{65536} << random(5);
    options.replace.windows_in_flight = 1 + static_cast<unsigned>(random(4));
    options.replace.commit_interval = std::chrono::milliseconds(5 + random(100));
    options.replace.retry_pauses = {std::chrono::milliseconds(10), std::chrono::milliseconds(30)};
    if (options_.rule) {
      options.replace.rule =
          options_.rule([this] { return mount_ ? historical_cursor(*mount_) : uint64_t{0}; });
    }
    std::vector<std::string> offers = {member_};
    if (!target_.empty() && devices_.has(target_)) offers.push_back(target_);
    if (offers.size() == 2 && chance(0.5)) std::swap(offers[0], offers[1]);
    std::string reasons;
    for (const auto& offer : offers) {
      auto opened = fs::Mount::open(runtime_, devices_, {offer}, options);
      if (opened) {
        mount_ = std::move(opened).value();
        say("mounted {}", offer);
        note_member();
        const auto state = mount_->replace().status().state;
        if (state == replace::State::copying || state == replace::State::finishing) {
          watched_ = target_;
        }
        return;
      }
      reasons += "; " + offer + ": " + opened.error().message();
    }
    fail("no device mounts{}", reasons);
  }

  /// Which disk carries devid 1 now.
  void note_member() {
    const auto device = mount_->volume().device(DeviceId(1));
    if (device == nullptr) fail("no devid 1");
    if (device->path() == target_) {
      std::swap(member_, target_);
      say("the member is {} now", member_);
    }
  }

  void close_mount() {
    if (auto closed = mount_->close(); !closed) fail("close: {}", closed.error().message());
    mount_.reset();
    watched_.clear();
  }

  void one_round() {
    open_mount();
    verify_after_mount();
    auto tasks = clients_.start();
    tasks.push_back(runtime_.spawn("driver", [this] { drive_replace(); }));
    if (rot_) tasks.push_back(runtime_.spawn("rot", [this] { decay(); }));
    const bool cut = options_.power_cuts && chance(0.5);
    wait_for_end(cut);
    if (cut) {
      ++result_.power_cuts;
      ++disturbances_;
      say("power cut");
      if (devices_.power()) devices_.cut_power();
    }
    clients_.stop();
    for (auto& task : tasks) task->join();
    heal();
    if (cut) {
      lose_power();
    } else {
      verify_now();
      close_mount();
      clients_.all_durable();
    }
  }

  /// After a power cut: a mount that ends after an operation or two, by an unmount or by the next
  /// cut. What the life before left unfinished must not come back.
  void short_visit() {
    open_mount();
    verify_after_mount();
    for (uint64_t n = random(3); n > 0; --n) clients_.one_more();
    const bool commits = chance(0.7), cut = options_.power_cuts && chance(0.5);
    if (commits) {
      if (auto done = mount_->filesystem().commit(); !done) fail("{}", done.error().message());
      clients_.all_durable();
    }
    if (!cut) {
      close_mount();
      clients_.all_durable();
      return;
    }
    ++result_.power_cuts;
    ++disturbances_;
    lose_power();
  }

  /// What the mount has not flushed is lost, kept or torn. The tasks of clients have ended.
  void lose_power() {
    if (devices_.power()) devices_.cut_power();
    mount_->abandon();
    mount_.reset();
    watched_.clear();
    devices_.restore_power();
    after_cut_ = true;
  }

  void heal() {
    fault_probability_ = 0;
    only_flushes_fail_ = false;
  }

  /// Sleeps for the length of a round. In some rounds that end in a power cut, the power goes soon
  /// after a delicate moment.
  void wait_for_end(bool cut) {
    const auto end =
        runtime_.now() + std::chrono::microseconds(1000 + random(cut ? 600'000 : 400'000));
    cuts_when_delicate_ = cut && chance(0.5);
    while (runtime_.now() < end && devices_.power()) {
      runtime_.sleep(std::min<Nanoseconds>(end - runtime_.now(), std::chrono::milliseconds(1)));
      if (!cuts_when_delicate_ && devices_.power()) runtime_.sleep(end - runtime_.now());
    }
    cuts_when_delicate_ = false;
    if (cut_event_ != 0) scheduler_.cancel_event(std::exchange(cut_event_, 0));
  }

  /// Delicate moments: a superblock changes its role, the replace has begun or was suspended, a
  /// batch of the fsync log is written.
  void delicate_moment() {
    if (!cuts_when_delicate_ || cut_event_ != 0 || !chance(0.3)) return;
    const Nanoseconds delay(random(1 + random(3'000'000)));
    cut_event_ = scheduler_.at(scheduler_.now() + delay, [this] { devices_.cut_power(); });
  }

  /// Ends with a finished replace, the source destroyed, everything on the target alone.
  void last_round() {
    open_mount();
    verify_after_mount();
    auto& replace = mount_->replace();
    using replace::State;
    State state = replace.status().state;
    if (state == State::suspended) {
      ++disturbances_;
      if (auto resumed = replace.resume(rot_.has_value()); !resumed) {
        // A swap that fails on a failing target and cannot be taken back wipes the target. Then the
        // user has to cancel and to start again.
        if (!target_may_be_wiped_) fail("resume: {}", resumed.error().message());
        if (auto gone = replace.cancel(); !gone) fail("cancel: {}", gone.error().message());
        start_replace(true);
      }
    } else if (state != State::copying && state != State::armed && state != State::finishing) {
      start_replace(true);
    }
    auto tasks = clients_.start();
    if (rot_) tasks.push_back(runtime_.spawn("rot", [this] { decay(); }));
    const auto deadline = runtime_.now() + std::chrono::hours(1);
    auto status = replace.wait([&] { return runtime_.now() > deadline; });
    // It stops because of blocks that no copy has; resume(true) accepts their loss.
    while (rot_ && status.state == State::suspended && status.errors.read_uncorrectable > 0) {
      ++result_.suspensions;
      ++disturbances_;
      if (auto resumed = replace.resume(true); !resumed) {
        fail("resume: {}", resumed.error().message());
      }
      status = replace.wait([&] { return runtime_.now() > deadline; });
    }
    clients_.stop();
    for (auto& task : tasks) task->join();
    if (status.state != State::finished) {
      fail("the replace does not finish: {} ({})", replace::name_of(status.state), status.reason);
    }
    finished(status);
    verify_now();
    close_mount();
    // What was not flushed is lost.
    devices_.cut_power();
    devices_.restore_power();
    devices_.remove(target_);  // note_member or finished swapped the names: this is the source
    target_.clear();
    fs::CheckOptions everything;
    everything.data = true;
    auto report = fs::check(runtime_, devices_, {member_}, everything);
    if (!report) fail("check cannot run: {}", report.error().message());
    if (rot_) {
      rot_->check_findings(report.value(), devices_.disk(member_));
    } else if (!report.value().clean()) {
      const auto& first = report.value().findings.front();
      fail("check: {} findings, first: {}: {}", report.value().finding_count, first.where,
           first.what);
    }
    open_mount();
    verify_now();
    close_mount();
  }

  // ---- Verifying.
  void verify_now() {
    clients_.verify_now();
    if (rot_) rot_->verify(mount_->filesystem(), current_member());
  }

  void verify_after_mount() {
    if (!after_cut_) return verify_now();
    after_cut_ = false;
    clients_.verify_after_cut();
    if (rot_) rot_->verify(mount_->filesystem(), current_member());
  }

  /// Returns the disk that carries devid 1 now.
  Rot::Member current_member() {
    return [this]() -> const Disk& {
      const auto device = mount_->volume().device(DeviceId(1));
      if (device == nullptr) fail("no devid 1");
      return devices_.disk(device->path());
    };
  }

  /// The device rots until the clients are told to stop.
  void decay() {
    while (!clients_.stopping() && devices_.power()) {
      if (!rot_->step(mount_->filesystem(), current_member())) return;
      runtime_.sleep(std::chrono::microseconds(random(40'000)));
    }
  }

  // ---- What the disks observe.
  static bool is_log(uint64_t offset) {
    return std::any_of(
        std::begin(alloc::kLogOffsets), std::end(alloc::kLogOffsets),
        [&](uint64_t area) { return area <= offset && offset < area + alloc::kLogBytes; });
  }

  void observe(const Disk& disk, DiskEvent event, uint64_t offset, ConstBytes bytes) {
    if (cuts_when_delicate_ && event == DiskEvent::write && offset < alloc::kFirstChunkOffset) {
      auto superblock = alloc::decode_superblock(bytes);
      if (superblock && (superblock.value().role != alloc::DeviceRole::member ||
                         superblock.value().pending_swap || disk.name == watched_)) {
        delicate_moment();
      }
      if (is_log(offset) && disk.name != watched_) {
        const bool begins =
            std::count(std::begin(alloc::kLogOffsets), std::end(alloc::kLogOffsets), offset) != 0;
        if (chance(begins ? 0.3 : 0.03)) delicate_moment();
      }
    }
    if (disk.name != watched_) return;
    if (event == DiskEvent::read && offset >= alloc::kFirstChunkOffset) {
      throw Failure(fmt::format("the target was read at {} before the swap", offset));
    }
    if (event != DiskEvent::write) return;
    if (offset < alloc::kFirstChunkOffset) {
      auto superblock = alloc::decode_superblock(bytes);
      if (superblock && superblock.value().role == alloc::DeviceRole::member) watched_.clear();
      return;
    }
    // Whole nodes are compared: two different ones can have a page in common.
    fs::NodeHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const uint64_t unit = header.magic == fs::kNodeMagic ? kNodeSize : kPage;
    for (uint64_t at = 0; at < bytes.size(); at += unit) {
      std::vector<std::byte> now(unit);
      disk.current.read(offset + at, now);
      const auto fresh = bytes.subspan(at, unit);
      if (std::all_of(fresh.begin(), fresh.end(), [](std::byte b) { return b == std::byte{0}; })) {
        continue;
      }
      // A device that was a member before may still hold the same bytes.
      const bool again = !written_places_.insert(offset + at).second;
      if (arming_) {
        early_writes_.insert(offset + at);
      } else if (again && std::equal(fresh.begin(), fresh.end(), now.begin()) &&
                 early_writes_.erase(offset + at) == 0) {
        written_twice_ += unit;
      }
    }
  }

  // ---- The replace.
  void start_replace(bool must_work) {
    auto& replace = mount_->replace();
    note_member();  // a swap may have happened since the last call
    if (!target_.empty() && !devices_.has(target_)) target_.clear();
    if (target_.empty()) {
      target_ = "disk" + std::to_string(next_disk_++);
      devices_.add(target_, disk_bytes_ + (random(3) << 20));
    }
    watched_ = target_;
    target_may_be_wiped_ = fault_probability_ > 0;
    written_twice_ = 0;
    disturbances_ = fault_probability_ > 0 ? 1 : 0;
    say("replace {} by {}", member_, target_);
    arming_ = true;  // what is duplicated before G0 is fixed is born before G0: copied once more
    early_writes_.clear();
    written_places_.clear();
    auto started = replace.start({"1", target_, true});
    arming_ = false;
    if (started) return;
    watched_.clear();
    say("start: {}", started.error().message());
    if (must_work) fail("start: {}", started.error().message());
  }

  void finished(const replace::Status& status) {
    ++result_.replaces_finished;
    // The repair of a rotten node goes to both devices, and the copier may copy it later.
    const bool repairs = rot_ && rot_->spoilt_nodes();
    if (disturbances_ == 0 && !repairs && (written_twice_ != 0 || status.bytes_recopied != 0)) {
      fail("{} bytes were written to the target twice, {} recopied", written_twice_,
           status.bytes_recopied);
    }
    if (rot_) {
      rot_->check_finished(status, current_member()());
    } else if (status.errors.read_corrected + status.errors.read_uncorrectable != 0) {
      fail("the copier read {} blocks that did not match, although no device rots",
           status.errors.read_corrected + status.errors.read_uncorrectable);
    }
    note_member();
  }

  /// Starts, breaks, resumes, cancels at random until the clients are told to stop.
  void drive_replace() {
    using replace::State;
    auto& replace = mount_->replace();
    bool counted = false;
    auto nap = [this](uint64_t us) { runtime_.sleep(std::chrono::microseconds(random(us))); };
    nap(chance(0.3) ? 2'000 : 150'000);
    while (!clients_.stopping() && devices_.power()) {
      const State state = replace.status().state;
      switch (state) {
        case State::none:
        case State::cancelled:
        case State::failed:
          start_replace(false);
          counted = false;
          break;
        case State::finished:
          if (devices_.has(target_) && !counted && note_finished()) counted = true;
          if (chance(0.2)) {
            start_replace(false);
            counted = false;
          }
          break;
        case State::suspended:
          ++result_.suspensions;
          ++disturbances_;
          delicate_moment();
          heal();
          nap(30'000);
          if (chance(0.8)) {
            watched_ = target_;
            (void)replace.resume(rot_ && chance(0.5));
          } else {
            cancel();
          }
          break;
        default:
          if (options_.target_faults && chance(0.15) && devices_.has(target_)) {
            say("the target begins to fail");
            ++disturbances_;
            target_may_be_wiped_ = true;
            fault_probability_ = chance(0.5) ? 1.0 : 0.1;
            only_flushes_fail_ = chance(0.3);
          } else if (fault_probability_ > 0 && chance(0.3)) {
            heal();
          } else if (chance(0.05)) {
            say("cancel");
            ++disturbances_;
            cancel();
          }
      }
      nap(60'000);
    }
  }

  void cancel() {
    if (!mount_->replace().cancel()) return;
    ++result_.cancels;
    watched_.clear();
  }

  bool note_finished() {
    const auto device = mount_->volume().device(DeviceId(1));
    if (device == nullptr || device->path() != target_) return false;
    finished(mount_->replace().status());
    return true;
  }

  std::optional<Rot> rot_;
  std::string member_ = "disk0", target_;
  uint64_t disk_bytes_ = 0, next_disk_ = 1;
  std::string watched_;           ///< the target while it must not be read
  double fault_probability_ = 0;  ///< of each request of the target
  bool only_flushes_fail_ = false;
  bool cuts_when_delicate_ = false;
  uint64_t written_twice_ = 0;
  bool arming_ = false;
  std::set<uint64_t> early_writes_, written_places_;
  bool target_may_be_wiped_ = false;
  uint64_t disturbances_ = 0;  ///< since the start: cuts, faults, cancels
};

}  // namespace

LifeResult live(const LifeOptions& options) {
  return live_as<Life>(options);
}

uint64_t shrink(const LifeOptions& failing, LifeResult (*live)(const LifeOptions&)) {
  LifeOptions options = failing;
  options.verbose = false;
  uint64_t low = 0, high = std::min<uint64_t>(failing.operation_limit, live(options).operations);
  while (low < high) {
    options.operation_limit = low + (high - low) / 2;
    if (live(options).passed) {
      low = options.operation_limit + 1;
    } else {
      high = options.operation_limit;
    }
  }
  return high;
}

}  // namespace moltfs::sim
