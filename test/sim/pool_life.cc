// SPDX-License-Identifier: MIT
// One life of a volume of several devices: see the header.
//
// A device counts as failed from the moment when it may fail, or when it is taken away. It counts
// as whole again only if a mount takes it as a member. After an operation was acknowledged without
// it (C5), no mount may do that.
#include "test/sim/pool_life.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "alloc/disk/superblock.h"
#include "fs/check/check.h"
#include "test/sim/life_base.h"

namespace moltfs::sim {

namespace {

using alloc::IoOp;
using alloc::Profile;

/// A profile, the devices that it needs, and how many of them may fail.
struct Redundancy {
  Profile profile;
  size_t devices, survives;
};
constexpr Redundancy kRedundancies[] = {
    {Profile::raid1, 2, 1},
    {Profile::raid1c3, 3, 2},
    {Profile::raid1c4, 4, 3},
    {Profile::raid10, 4, 1},
};

/// How a device fails from now on.
struct Fault {
  double probability = 1;  ///< of each request
  bool of_reads = false, only_of_flushes = false;
  uint64_t times = ~uint64_t{0};
  Nanoseconds end = Nanoseconds::max();
  Errc code = Errc::io_error;
};

struct Member {
  std::string name;
  DeviceId devid;
  std::optional<Fault> fault;
  bool failed = false;        ///< it counts as failed
  bool write_failed = false;  ///< in this mount
  bool left_behind = false;   ///< something was acknowledged without it
  bool was_out = false;       ///< it was left behind before this mount
  bool away = false;          ///< it is on the shelf
  bool destroyed = false;
  bool is_there() const { return !away && !destroyed; }
};

class PoolLife final : public LifeBase {
 public:
  explicit PoolLife(const LifeOptions& options)
      : LifeBase(options, false), shelf_(scheduler_), copies_(scheduler_) {
    devices_.set_fault([this](Disk& disk, const alloc::IoRequest& request) {
      return judge(*member_named(disk.name), request);
    });
    devices_.set_hold([this](const Disk& disk, const alloc::IoRequest& request) {
      observe(*member_named(disk.name), request);
      return Nanoseconds(0);
    });
    clients_.on_sync = [this](const Client&) { return sync_begins(); };
  }

 private:
  // ---- The whole life.
  void body() override {
    make_volume();
    const uint64_t rounds = 2 + random(3);
    for (uint64_t round = 0; round < rounds; ++round) {
      between_mounts();
      one_round();
    }
    last_round();
  }

  void make_volume() {
    const size_t count = 2 + random(3);
    for (size_t i = 0; i < count; ++i) {
      Member& member = members_.emplace_back();
      member.name = "disk" + std::to_string(i + 1);
      member.devid = DeviceId(i + 1);
      devices_.add(member.name, (48 + random(5) * 8) << 20);
    }
    fs::MkfsOptions mkfs;
    survives_ = count;
    for (Profile* chosen : {&mkfs.volume.data_profile, &mkfs.volume.metadata_profile}) {
      const Redundancy* kind = nullptr;
      while (kind == nullptr || kind->devices > count) {
        kind = &kRedundancies[random(std::size(kRedundancies))];
      }
      *chosen = kind->profile;
      survives_ = std::min(survives_, kind->survives);
    }
    if (chance(0.5)) mkfs.volume.chunk_size = (1 + random(2)) << 20;
    std::vector<std::string> paths;
    for (const Member& member : members_) paths.push_back(member.name);
    say("{} devices, data {}, metadata {}: {} may fail", count,
        alloc::name_of(mkfs.volume.data_profile), alloc::name_of(mkfs.volume.metadata_profile),
        survives_);
    if (auto made = fs::make_filesystem(runtime_, devices_, paths, mkfs); !made) {
      fail("mkfs: {}", made.error().message());
    }
    clients_.add(1 + static_cast<int>(random(3)));
    clients_.fsyncs_much = chance(0.5);
    open_mount();
    clients_.make_directories();
    close_mount();
  }

  /// Devices are taken away and come back, some are copied.
  void between_mounts() {
    for (Member& member : members_) {
      if (!member.failed && chance(0.3)) {
        devices_.copy_disk(member.name, copies_, member.name);
        continue;
      }
      if (member.away) {
        if (chance(0.5)) bring_back(member);
      } else if (member.failed ? chance(0.3) : failures() < survives_ && chance(0.15)) {
        take_away(member);
      } else if (!member.failed && failures() < survives_ && chance(0.1)) {
        begin_fault(member);
      }
    }
  }

  void take_away(Member& member) {
    say("{} is taken away", member.name);
    member.fault.reset();
    member.failed = member.away = true;
    devices_.copy_disk(member.name, shelf_, member.name);
    devices_.remove(member.name);
  }

  /// As it was left, or as an older copy.
  void bring_back(Member& member) {
    const bool older = member.left_behind && copies_.has(member.name) && chance(0.4);
    say("{} comes back{}", member.name, older ? " as an older copy" : "");
    (older ? copies_ : shelf_).copy_disk(member.name, devices_, member.name);
    shelf_.remove(member.name);
    member.away = false;
    ++result_.returns;
  }

  void one_round() {
    open_mount();
    verify_after_mount();
    auto tasks = clients_.start();
    tasks.push_back(runtime_.spawn("trouble", [this] { make_trouble(); }));
    const bool cut = options_.power_cuts && chance(0.6);
    wait_for_end(cut);
    if (cut) {
      ++result_.power_cuts;
      say("power cut");
      if (devices_.power()) devices_.cut_power();
    }
    clients_.stop();
    for (auto& task : tasks) task->join();
    if (cut) {
      lose_power();
    } else {
      if (chance(0.5)) heal();
      clients_.verify_now();
      close_mount();
    }
  }

  /// Sleeps for the length of a round. Some rounds end by a power cut soon after a failure.
  void wait_for_end(bool cut) {
    const auto end =
        runtime_.now() + std::chrono::microseconds(1000 + random(cut ? 600'000 : 400'000));
    cuts_after_fault_ = cut && chance(0.6);
    while (runtime_.now() < end && devices_.power()) {
      runtime_.sleep(std::min<Nanoseconds>(end - runtime_.now(), std::chrono::milliseconds(1)));
    }
    cuts_after_fault_ = false;
    if (cut_event_ != 0) scheduler_.cancel_event(std::exchange(cut_event_, 0));
  }

  void lose_power() {
    mount_->abandon();
    mount_.reset();
    devices_.restore_power();
    after_cut_ = true;
    end_faults();
  }

  void close_mount() {
    if (auto closed = mount_->close(); !closed) fail("close: {}", closed.error().message());
    clients_.all_durable();
    mount_.reset();
    for (Member& member : members_) member.left_behind |= member.failed && is_said_out(member);
    end_faults();
  }

  void last_round() {
    open_mount();
    verify_after_mount();
    for (uint64_t n = random(10); n > 0; --n) clients_.one_more();
    close_mount();
    devices_.cut_power();
    devices_.restore_power();
    check_all();
    destroy_all();
    open_mount();
    clients_.verify_now();
    for (uint64_t n = random(10); n > 0; --n) clients_.one_more();
    clients_.verify_now();
    close_mount();
    check_all();
  }

  /// All devices that count as failed, and one more if the profiles survive that.
  void destroy_all() {
    const size_t chosen = random(members_.size());
    for (Member& member : members_) {
      const bool one_more =
          &member == &members_[chosen] && !member.failed && failures() < survives_;
      if (!member.failed && !one_more) continue;
      member.failed = member.destroyed = true;
      if (member.away) continue;
      const bool removed = chance(0.3);
      say("{} is {}", member.name, removed ? "removed" : "overwritten");
      if (removed) {
        devices_.remove(member.name);
      } else {
        overwrite(devices_.disk(member.name));
      }
    }
  }

  void overwrite(Disk& disk) {
    std::vector<std::byte> garbage(kPage);
    for (auto& byte : garbage) byte = static_cast<std::byte>(random(256));
    std::vector<uint64_t> places;
    disk.current.for_each(
        [&](uint64_t offset, const PageImage::Page&) { places.push_back(offset); });
    for (const uint64_t offset : places) disk.current.write(offset, garbage);
    disk.durable = disk.current;
    disk.unflushed.clear();
  }

  void check_all() {
    fs::CheckOptions everything;
    everything.data = true;
    everything.degraded = can_be_refused();
    auto report = fs::check(runtime_, devices_, some_present(), everything);
    if (!report) fail("check cannot run: {}", report.error().message());
    if (report.value().clean()) return;
    const auto& first = report.value().findings.front();
    fail("check: {} findings, first: {}: {}", report.value().finding_count, first.where,
         first.what);
  }

  // ---- Mounting.
  std::vector<std::string> some_present() {
    std::vector<std::string> paths;
    for (const Member& member : members_) {
      if (member.is_there()) paths.push_back(member.name);
    }
    for (size_t i = paths.size(); i > 1; --i) std::swap(paths[i - 1], paths[random(i)]);
    // One that cannot be read cannot name the others.
    if (!any_fault()) paths.resize(1 + random(paths.size()));
    return paths;
  }

  /// A device that is away keeps the volume from being mounted, unless it is known to be out.
  void open_mount() {
    auto options = mount_options();
    for (Member& member : members_) {
      member.was_out = member.left_behind;
      member.write_failed = false;
    }
    options.degraded = chance(can_be_refused() ? 0.5 : 0.2);
    const uint64_t before = written_bytes();
    auto opened = fs::Mount::open(runtime_, devices_, some_present(), options);
    if (!opened && can_be_refused() && !options.degraded) {
      say("refused: {}", opened.error().message());
      if (!any_fault() && opened.error() != Errc::missing_device) {
        fail("a device is missing, and the mount says: {}", opened.error().message());
      }
      if (!any_fault() && written_bytes() != before) fail("a refused mount has written");
      options.degraded = true;
      for (Member& member : members_) member.write_failed = false;
      opened = fs::Mount::open(runtime_, devices_, some_present(), options);
    }
    if (!opened) fail("mount: {}", opened.error().message());
    mount_ = std::move(opened).value();
    say("mounted{}", options.degraded ? " degraded" : "");
    note_members();
  }

  bool can_be_refused() const {
    return std::any_of(members_.begin(), members_.end(), [](const Member& member) {
      return (!member.is_there() && !member.left_behind) || member.fault;
    });
  }

  void note_members() {
    bool degraded = false;
    for (Member& member : members_) {
      const bool out = is_out(member);
      if (!out && member.left_behind) {
        fail("{} is a member again, although something was acknowledged without it", member.name);
      }
      if (out && !member.failed) fail("{} is out, and has never failed", member.name);
      if (out) say("{} is out", member.name);
      degraded |= out;
      if (!member.fault) member.failed = out;
    }
    result_.degraded_mounts += degraded ? 1 : 0;
  }

  bool is_out(const Member& member) const {
    return mount_->volume().device(member.devid) == nullptr;
  }

  bool any_fault() const {
    return std::any_of(members_.begin(), members_.end(),
                       [](const Member& m) { return m.fault.has_value(); });
  }

  uint64_t written_bytes() {
    uint64_t bytes = 0;
    for (const Member& member : members_) {
      if (devices_.has(member.name)) bytes += devices_.disk(member.name).written_bytes;
    }
    return bytes;
  }

  void verify_after_mount() {
    if (!std::exchange(after_cut_, false)) return clients_.verify_now();
    clients_.verify_after_cut();
  }

  // ---- Failures.
  size_t failures() const {
    return static_cast<size_t>(
        std::count_if(members_.begin(), members_.end(), [](const Member& m) { return m.failed; }));
  }

  Member* member_named(const std::string& name) {
    return &*std::find_if(members_.begin(), members_.end(),
                          [&](const Member& member) { return member.name == name; });
  }

  /// Lets devices fail at random until the clients are told to stop.
  void make_trouble() {
    const uint64_t pause = chance(0.3) ? 5'000 : 150'000;
    while (!clients_.stopping() && devices_.power()) {
      runtime_.sleep(std::chrono::microseconds(random(pause)));
      Member& member = members_[random(members_.size())];
      if (!member.failed && failures() < survives_ && chance(0.6)) begin_fault(member);
    }
  }

  void begin_fault(Member& member) {
    Fault fault;
    switch (random(4)) {
      case 0:
        fault.times = 1 + random(3);
        break;
      case 1:
        fault.end = runtime_.now() + std::chrono::microseconds(random(100'000));
        fault.probability = chance(0.5) ? 1.0 : 0.2;
        break;
      case 2:
        break;
      default:
        fault.code = Errc::device_gone;
    }
    fault.of_reads = fault.code == Errc::device_gone || chance(0.4);
    fault.only_of_flushes = fault.code == Errc::io_error && !fault.of_reads && chance(0.3);
    say("{} begins to fail", member.name);
    member.fault = fault;
    member.failed = true;
    ++result_.faults;
  }

  Result<void> judge(Member& member, const alloc::IoRequest& request) {
    if (!member.fault) return ok();
    Fault& fault = *member.fault;
    const bool concerns = request.op == IoOp::read
                              ? fault.of_reads
                              : !fault.only_of_flushes || request.op == IoOp::flush;
    if (!concerns || runtime_.now() >= fault.end || fault.times == 0) return ok();
    if (!chance(fault.probability)) return ok();
    --fault.times;
    if (request.op == IoOp::write || request.op == IoOp::flush) {
      member.write_failed = true;
      if (cuts_after_fault_ && cut_event_ == 0 && chance(0.3)) {
        const Nanoseconds delay(random(1 + random(30'000'000)));
        cut_event_ = scheduler_.at(scheduler_.now() + delay, [this] { devices_.cut_power(); });
      }
    }
    return Error(fault.code);
  }

  /// Faults that pass have passed.
  void heal() {
    for (Member& member : members_) {
      if (member.fault && member.fault->code != Errc::device_gone) member.fault.reset();
    }
  }

  /// The mount has ended. A device that had vanished has lost its power.
  void end_faults() {
    for (Member& member : members_) {
      if (member.fault && member.fault->code == Errc::device_gone) {
        devices_.lose_cache(member.name);
      }
      member.fault.reset();
    }
    if (!violation_.empty()) fail("{}", violation_);
  }

  // ---- What is observed.
  /// C2: nothing is written to a device that was out when the mount began, and no superblock to one
  /// that is out.
  void observe(const Member& member, const alloc::IoRequest& request) {
    if (request.op != IoOp::write && request.op != IoOp::discard) return;
    const bool is_superblock = std::count(std::begin(alloc::kSuperblockOffsets),
                                          std::end(alloc::kSuperblockOffsets), request.offset) != 0;
    if (!member.was_out && !(mount_ && is_superblock && is_out(member))) return;
    violation_ = fmt::format("C2: {} is out, and is written at {}", member.name, request.offset);
  }

  /// C5: what is acknowledged without a device is acknowledged when the others say that it is out.
  std::function<void()> sync_begins() {
    std::vector<Member*> behind;
    for (Member& member : members_) {
      if (member.write_failed || !member.is_there()) behind.push_back(&member);
    }
    return [this, behind, begun = runtime_.now()] {
      if (runtime_.now() == begun) return;  // there was nothing to write
      for (Member* member : behind) {
        member->left_behind = true;
        if (is_said_out(*member)) continue;
        fail("C5: a sync has returned, and no superblock says that {} is out", member->name);
      }
    };
  }

  /// Whether a durable superblock of another device says that it is out.
  bool is_said_out(const Member& member) {
    for (const Member& other : members_) {
      if (&other == &member || !other.is_there()) continue;
      std::optional<alloc::Superblock> newest;
      for (unsigned copy : {0u, 1u}) {
        std::vector<std::byte> bytes(kBlockSize);
        const PageImage& disk = devices_.disk(other.name).durable;
        disk.read(alloc::kSuperblockOffsets[copy], bytes);
        bytes.resize(alloc::encoded_length(bytes));
        disk.read(alloc::kSuperblockOffsets[copy], bytes);
        auto superblock = alloc::decode_superblock(bytes, copy);
        if (!superblock) continue;
        if (newest && newest->generation >= superblock.value().generation) continue;
        newest = std::move(superblock).value();
      }
      if (!newest) continue;
      for (const alloc::DeviceEntry& entry : newest->devices) {
        if (entry.devid == member.devid && entry.out) return true;
      }
    }
    return false;
  }

  SimDevices shelf_;   ///< devices that are away
  SimDevices copies_;  ///< older copies of devices
  std::vector<Member> members_;
  size_t survives_ = 0;
  bool cuts_after_fault_ = false;
  std::string violation_;
};

}  // namespace

LifeResult live_in_pool(const LifeOptions& options) {
  return live_as<PoolLife>(options);
}

}  // namespace moltfs::sim
