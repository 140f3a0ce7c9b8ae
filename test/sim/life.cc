// SPDX-License-Identifier: MIT
// One life of a volume: see the header.
#include "test/sim/life.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <set>
#include <stdexcept>
#include <utility>

#include "alloc/disk/log_batch.h"
#include "alloc/disk/superblock.h"
#include "fs/check/check.h"
#include "fs/mount/mount.h"
#include "fs/tree/format.h"
#include "test/sim/historical_rule.h"
#include "test/sim/oracle.h"
#include "test/sim/rot.h"
#include "test/sim/scheduler.h"
#include "test/sim/sim_disk.h"

namespace moltfs::sim {

namespace {

using fs::Filesystem;

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(fmt::format(format, std::forward<Args>(args)...));
}

/// Errors that end a client without being a failure: the power is off.
bool is_power_error(const Error& error) {
  return error.code == Errc::io_error || error.code == Errc::read_only ||
         error.code == Errc::device_gone || error.code == Errc::bad_node;
}

struct Client {
  explicit Client(int n) : name("c" + std::to_string(n)), history(DirState{}) {}
  std::string name;
  InodeNumber directory;
  History history;
  uint64_t next_file = 1;
  FileId next_id = 1u << 20;  // above real inode numbers: ids of the oracle only
};

class Life {
 public:
  explicit Life(const LifeOptions& options)
      : options_(options), scheduler_(options.seed), runtime_(scheduler_), devices_(scheduler_) {
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

  LifeResult run() {
    try {
      scheduler_.run([this] { body(); });
      result_.passed = true;
    } catch (const std::exception& e) {
      result_.failure = e.what();
    }
    if (rot_) result_.rotten = rot_->spoilt_count();
    result_.trace = scheduler_.trace();
    result_.steps = scheduler_.steps();
    return result_;
  }

 private:
  uint64_t random(uint64_t bound) { return scheduler_.random(bound); }
  bool chance(double p) { return scheduler_.chance(p); }

  template <class... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    if (!options_.verbose) return;
    fmt::print("{:>12.6f}s  {}\n", static_cast<double>(scheduler_.now().count()) / 1e9,
               fmt::format(format, std::forward<Args>(args)...));
  }

  // ---- The whole life.
  void body() {
    disk_bytes_ = (64 + random(3) * 16) << 20;
    devices_.add(member_, disk_bytes_);
    fs::MkfsOptions mkfs;
    if (chance(0.5)) mkfs.volume.chunk_size = (1 + random(2)) << 20;
    if (auto made = fs::make_filesystem(runtime_, devices_, {member_}, mkfs); !made) {
      fail("mkfs: {}", made.error().message());
    }
    const int client_count = 1 + static_cast<int>(random(3));
    for (int i = 0; i < client_count; ++i) clients_.push_back(std::make_unique<Client>(i));
    fsyncs_much_ = chance(0.3);
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
    for (auto& client : clients_) {
      auto made = mount_->filesystem().make(fs::kRootInode, client->name, 0040755, 0, {});
      if (!made) fail("mkdir: {}", made.error().message());
      client->directory = made.value().ino;
      mount_->filesystem().forget(made.value().ino, 1);
    }
    if (rot_) rot_->make(mount_->filesystem(), devices_.disk(member_));
    close_mount();
  }

  /// Mounts the member, which is one of the two devices; offers them in random order.
  void open_mount() {
    fs::Mount::Options options;
    options.cache_bytes = uint64_t{256 << 10} << (2 * random(4));  // 256 KiB to 16 MiB
    options.commit_interval =
        std::chrono::milliseconds(20 + random(fsyncs_much_ && chance(0.7) ? 5000 : 400));
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
    stop_clients_ = false;
    std::vector<std::unique_ptr<Task>> tasks;
    for (auto& client : clients_) {
      tasks.push_back(runtime_.spawn(client->name, [this, c = client.get()] { work(*c); }));
    }
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
    stop_clients_ = true;
    for (auto& task : tasks) task->join();
    heal();
    if (cut) {
      lose_power();
    } else {
      verify_now();
      close_mount();
      durable_all();
    }
  }

  /// After a power cut: a mount that ends after an operation or two, by an unmount or by the next
  /// cut. What the life before left unfinished must not come back.
  void short_visit() {
    open_mount();
    verify_after_mount();
    for (uint64_t n = random(3); n > 0; --n) {
      if (++result_.operations > options_.operation_limit) break;
      Client& client = *clients_[random(clients_.size())];
      auto done = one_operation(client);
      if (!done && done.error().code != Errc::no_space) {
        fail("{}: {}", client.name, done.error().message());
      }
    }
    const bool commits = chance(0.7), cut = options_.power_cuts && chance(0.5);
    if (commits) {
      if (auto done = mount_->filesystem().commit(); !done) fail("{}", done.error().message());
      durable_all();
    }
    if (!cut) {
      close_mount();
      durable_all();
      return;
    }
    ++result_.power_cuts;
    ++disturbances_;
    lose_power();
  }

  void durable_all() {
    for (auto& client : clients_) client->history.durable(client->history.completed());
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
    stop_clients_ = false;
    std::vector<std::unique_ptr<Task>> tasks;
    for (auto& client : clients_) {
      tasks.push_back(runtime_.spawn(client->name, [this, c = client.get()] { work(*c); }));
    }
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
    stop_clients_ = true;
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
  DirState read_client(Client& client) {
    auto state = read_state(mount_->filesystem(), client.directory);
    if (!state) fail("{}: reading: {}", client.name, state.error().message());
    return std::move(state).value();
  }

  void verify_now() {
    for (auto& client : clients_) {
      std::string why;
      if (!same(client->history.newest(), read_client(*client), &why)) {
        fail("{}: {}", client->name, why);
      }
    }
    if (rot_) rot_->verify(mount_->filesystem(), current_member());
  }

  void verify_after_mount() {
    if (!after_cut_) return verify_now();
    after_cut_ = false;
    for (auto& client : clients_) {
      std::string why;
      if (!client->history.recover(read_client(*client), &why)) {
        fail("{} after a power cut: no state of its history; newest: {}", client->name, why);
      }
    }
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
    while (!stop_clients_ && devices_.power()) {
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
    while (!stop_clients_ && devices_.power()) {
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

  // ---- A client.
  void work(Client& client) {
    while (!stop_clients_ && devices_.power()) {
      if (++result_.operations > options_.operation_limit) return;
      const Result<void> done = counted_operation(client);
      if (!done) {
        if (!devices_.power() && is_power_error(done.error())) return;
        if (done.error().code != Errc::no_space) {
          fail("{}: {}", client.name, done.error().message());
        }
      }
      if (chance(0.3)) runtime_.sleep(std::chrono::microseconds(random(8000)));
    }
  }

  /// In every other life the copier knows of the clients and leaves them time.
  Result<void> counted_operation(Client& client) {
    if (options_.seed % 2 == 0) return one_operation(client);
    const Nanoseconds begun = runtime_.now();
    auto done = one_operation(client);
    mount_->request_load().count(begun, runtime_.now());
    return done;
  }

  std::string random_bytes(uint64_t length) {
    std::string bytes(length, '\0');
    const uint64_t stamp = ++stamp_;
    for (uint64_t i = 0; i < length; ++i) {
      bytes[i] = static_cast<char>((stamp * 0x9e3779b97f4a7c15 + i * 0xff51afd7ed558ccd) >> 37);
    }
    return bytes;
  }

  /// Announces the next state, does the operation, takes the state back if it was refused.
  Result<void> step(Client& client, DirState next, const std::function<Result<void>()>& act) {
    client.history.issue(std::move(next));
    auto done = act();
    if (!done && !is_power_error(done.error())) client.history.take_back();
    return done;
  }

  /// Runs `act` with the inode of `name` and holds a reference meanwhile.
  Result<void> with_file(Client& client, const std::string& name,
                         const std::function<Result<void>(InodeNumber)>& act) {
    auto& filesystem = mount_->filesystem();
    TRY(auto attributes, filesystem.lookup(client.directory, name));
    auto done = act(attributes.ino);
    filesystem.forget(attributes.ino, 1);
    return done;
  }

  Result<void> one_operation(Client& client) {
    if (fsyncs_much_ && chance(0.2)) return sync(client);
    const uint64_t dice = random(100);
    if (client.history.newest().names.size() < 3 || dice < 14) return create(client);
    if (dice < 55) return change_content(client);
    if (dice < 75) return change_names(client);
    if (dice < 81) return set_xattr(client);
    if (dice < 92) return sync(client);
    if (dice < 94) return purge(client);
    return read_back(client);
  }

  std::string any_name(Client& client) {
    const auto& names = client.history.newest().names;
    auto it = names.begin();
    std::advance(it, static_cast<ptrdiff_t>(random(names.size())));
    return it->first;
  }

  Result<void> create(Client& client) {
    if (client.history.newest().names.size() > 24) return unlink(client, any_name(client));
    const std::string name = "f" + std::to_string(client.next_file++);
    DirState next = client.history.newest();
    const FileId id = client.next_id++;
    next.names[name] = id;
    next.files[id] = {};
    return step(client, std::move(next), [&]() -> Result<void> {
      TRY(auto made, mount_->filesystem().make(client.directory, name, 0100644, 0, {}));
      mount_->filesystem().forget(made.ino, 1);
      return ok();
    });
  }

  Result<void> change_content(Client& client) {
    const std::string name = any_name(client);
    DirState next = client.history.newest();
    FileState& file = next.files[next.names[name]];
    std::string content = *file.content;
    const uint64_t dice = random(10);
    std::function<Result<void>(InodeNumber)> act;
    if (dice < 6) {  // write: aligned or not, inside, across the end, past the end
      const bool aligned = chance(0.6);
      const uint64_t unit = aligned ? kBlockSize : 1;
      const uint64_t span = std::min<uint64_t>(content.size() + 20'000, 400'000);
      const uint64_t offset = random(span / unit + 1) * unit;
      const std::string bytes = random_bytes((1 + random(aligned ? 16 : 30'000)) * unit);
      if (content.size() < offset + bytes.size()) content.resize(offset + bytes.size());
      content.replace(offset, bytes.size(), bytes);
      act = [this, offset, bytes](InodeNumber ino) -> Result<void> {
        // In aligned memory or surely not aligned: nothing may depend on where the heap is.
        const uint64_t shift = random(2);
        AlignedBuffer buffer(round_up(bytes.size() + shift, kBlockSize));
        std::memcpy(buffer.data() + shift, bytes.data(), bytes.size());
        TRY(mount_->filesystem().write(ino, offset, buffer.span().subspan(shift, bytes.size()),
                                       {}));
        return ok();
      };
    } else if (dice < 8) {
      const uint64_t size = random(2) == 0 ? random(content.size() + 1) : random(150'000);
      content.resize(size);
      act = [this, size](InodeNumber ino) -> Result<void> {
        fs::SetAttributes set;
        set.size = size;
        TRY(mount_->filesystem().set_attributes(ino, set));
        return ok();
      };
    } else {
      const uint64_t offset = random(content.size() + 1), length = 1 + random(60'000);
      const auto mode = dice == 8 ? fs::AllocateMode::punch_hole : fs::AllocateMode::allocate;
      if (dice == 8) {
        for (uint64_t i = offset; i < std::min<uint64_t>(offset + length, content.size()); ++i) {
          content[i] = '\0';
        }
      }
      act = [this, offset, length, mode](InodeNumber ino) {
        return mount_->filesystem().allocate(ino, mode, offset, length, true);
      };
    }
    file.content = std::make_shared<const std::string>(std::move(content));
    return step(client, std::move(next), [&] { return with_file(client, name, act); });
  }

  Result<void> unlink(Client& client, const std::string& name) {
    DirState next = client.history.newest();
    const FileId id = next.names[name];
    next.names.erase(name);
    if (std::none_of(next.names.begin(), next.names.end(),
                     [id](const auto& other) { return other.second == id; })) {
      next.files.erase(id);
    }
    return step(client, std::move(next),
                [&] { return mount_->filesystem().unlink(client.directory, name); });
  }

  /// Removes most files: chunks become empty and are removed.
  Result<void> purge(Client& client) {
    while (client.history.newest().names.size() > 2) {
      TRY(unlink(client, any_name(client)));
    }
    return ok();
  }

  Result<void> change_names(Client& client) {
    const std::string name = any_name(client);
    const uint64_t dice = random(3);
    if (dice == 0) return unlink(client, name);
    std::string other = chance(0.5) ? any_name(client) : "n" + std::to_string(client.next_file++);
    DirState next = client.history.newest();
    const FileId id = next.names[name];
    const bool exists = next.names.count(other) != 0;
    if (dice == 1) {
      if (exists) return ok();
      next.names[other] = id;
      return step(client, std::move(next), [&] {
        return with_file(client, name, [&](InodeNumber ino) -> Result<void> {
          TRY(mount_->filesystem().link(ino, client.directory, other));
          mount_->filesystem().forget(ino, 1);
          return ok();
        });
      });
    }
    if (exists && next.names[other] == id) return ok();  // both names of one file: no change
    const FileId victim = exists ? next.names[other] : 0;
    next.names.erase(name);
    next.names[other] = id;
    if (exists && std::none_of(next.names.begin(), next.names.end(),
                               [victim](const auto& n) { return n.second == victim; })) {
      next.files.erase(victim);
    }
    return step(client, std::move(next), [&] {
      return mount_->filesystem().rename(client.directory, name, client.directory, other,
                                         fs::RenameMode::replace, {});
    });
  }

  Result<void> set_xattr(Client& client) {
    const std::string name = any_name(client), key = "user.x" + std::to_string(random(4));
    const std::string value = random_bytes(random(chance(0.2) ? 9000 : 200));
    DirState next = client.history.newest();
    next.files[next.names[name]].xattrs[key] = value;
    return step(client, std::move(next), [&] {
      return with_file(client, name, [&](InodeNumber ino) {
        return mount_->filesystem().set_xattr(ino, key, std::as_bytes(std::span(value)),
                                              fs::XattrMode::any);
      });
    });
  }

  Result<void> sync(Client& client) {
    const size_t index = client.history.completed();
    TRY(chance(fsyncs_much_ ? 0.02 : 0.15) ? mount_->filesystem().commit()
                                           : mount_->filesystem().sync());
    if (!devices_.power()) return Error(Errc::io_error);  // the power may have gone after it
    client.history.durable(index);
    return ok();
  }

  Result<void> read_back(Client& client) {
    const std::string name = any_name(client);
    const auto& newest = client.history.newest();
    const auto want = newest.files.at(newest.names.at(name)).content;
    return with_file(client, name, [&](InodeNumber ino) -> Result<void> {
      const uint64_t shift = random(2);
      AlignedBuffer buffer(round_up(want->size() + 10 + shift, kBlockSize));
      const Bytes into = buffer.span().subspan(shift, want->size() + 10);
      TRY(auto n, mount_->filesystem().read(ino, 0, into));
      if (std::string_view(reinterpret_cast<const char*>(into.data()), n) != *want)
        fail("{}/{}: wrong bytes while mounted", client.name, name);
      return ok();
    });
  }

  const LifeOptions options_;
  Scheduler scheduler_;
  SimRuntime runtime_;
  SimDevices devices_;
  LifeResult result_;
  std::unique_ptr<fs::Mount> mount_;
  std::vector<std::unique_ptr<Client>> clients_;
  std::optional<Rot> rot_;
  std::string member_ = "disk0", target_;
  uint64_t disk_bytes_ = 0, next_disk_ = 1, stamp_ = 0;
  bool stop_clients_ = false, after_cut_ = false, fsyncs_much_ = false;
  std::string watched_;           ///< the target while it must not be read
  double fault_probability_ = 0;  ///< of each request of the target
  bool only_flushes_fail_ = false;
  bool cuts_when_delicate_ = false;
  uint64_t cut_event_ = 0;
  uint64_t written_twice_ = 0;
  bool arming_ = false;
  std::set<uint64_t> early_writes_, written_places_;
  bool target_may_be_wiped_ = false;
  uint64_t disturbances_ = 0;  ///< since the start: cuts, faults, cancels
};

}  // namespace

LifeResult live(const LifeOptions& options) {
  auto life = std::make_unique<Life>(options);
  LifeResult result = life->run();
  // In a world that ended in the middle nothing can be joined or closed any more.
  if (!result.passed) (void)life.release();
  return result;
}

uint64_t shrink(const LifeOptions& failing) {
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
