// SPDX-License-Identifier: MIT
// Volume: one commit. Chunk table, flush, the swap if one was requested, superblocks; then what the
// commit made free.
//
// Which writes a crash may lose, in the order of the steps (G is the commit, G-1 the one before):
//   chunk table   goes to the slot that G-1 does not name. Durable with the first flush.
//   target        a copy of its superblock, each time the other one. Durable with the first flush:
//                 so one copy is always whole, and no older than the members' superblocks.
//   first flush   makes everything of G durable, and copy 1 of G-1, before copy 0 is touched. So
//                 while copy 0 is torn, copy 1 holds G-1.
//   copy 0        durable with the second flush: then G is durable. Nothing before depends on it.
//   copy 1        not flushed here. Until the next commit's first flush it may be torn or hold G-1.
//                 Copy 0 is whole then, and counts. A device that is not used any more (the source
//                 of a swap, mkfs) is flushed.
#include <fmt/format.h>

#include <cstring>

#include "alloc/base/assert.h"
#include "alloc/base/checksum.h"
#include "alloc/base/log.h"
#include "alloc/base/uuid.h"
#include "alloc/disk/chunk_table.h"
#include "alloc/disk/format.h"
#include "alloc/volume/volume.h"

namespace moltfs::alloc {

class Volume::Commit {
 public:
  Commit(Volume& volume, const Space::Sealed& sealed, std::vector<std::byte> fs_payload);
  Result<void> run();

 private:
  struct Member {
    DeviceId devid;
    Device* device;
  };
  Result<void> make_durable();
  Result<void> write_chunk_table();
  void mark_target();
  Result<void> flush_devices();
  void ask_replace();
  Result<void> write_superblocks();
  Result<void> flush_members();
  Result<void> write_copies(unsigned copy);
  bool take_absences();

  void try_swap();
  void swap_failed(std::string reason);
  Result<void> write_target_superblock(Device& target, const Superblock& superblock);
  void retire_source();
  void demote_target();
  void publish();

  std::vector<Member> members() const;
  Result<void> run_on_members(std::span<const Member> on, std::vector<IoRequest>& requests);
  Result<void> judge(std::span<const Member> on, std::span<const IoRequest> requests);

  Volume& volume_;
  const Space::Sealed& sealed_;
  std::optional<SwapRequest> swap_;
  Superblock next_;
  std::optional<Uuid> announced_;  // target of the pending_swap of the commit before
  bool first_ = false;             // the first commit of the volume's life
  bool target_flushed_ = false, table_on_target_ = false;

  // Set by try_swap():
  bool swapped_ = false;
  bool target_is_written_ = false;   // both copies of its superblock are as in `next_`
  std::string swap_reason_;          // why not
  std::optional<Error> swap_fault_;  // of the target; the hook must be told
  std::shared_ptr<Device> source_;
  std::shared_ptr<Device> target_;    // its superblock may have the role "member"
  Superblock::Succession successor_;  // for the source's superblock
  Uuid source_uuid_;
};

Volume::Commit::Commit(Volume& volume, const Space::Sealed& sealed,
                       std::vector<std::byte> fs_payload)
    : volume_(volume),
      sealed_(sealed),
      swap_(volume.take_swap_request(sealed.generation)),
      next_(volume.next_superblock()) {
  first_ = next_.generation.value == 0;
  {
    std::lock_guard lock(volume.mutex_);
    if (volume.durable_.pending_swap) announced_ = volume.durable_.pending_swap->uuid;
  }
  next_.generation = sealed.generation;
  next_.next_logical = sealed.next_logical;
  next_.fs_payload = std::move(fs_payload);
}

Result<void> Volume::Commit::run() {
  auto result = make_durable();
  if (swap_ && !swapped_ && swap_reason_.empty()) {
    swap_failed("the commit failed: " + result.error().message());
  }
  if (result && target_ && !swapped_) demote_target();
  if (swapped_) retire_source();
  if (swap_fault_) volume_.report_target_fault(IoOp::write, *swap_fault_);
  if (result) {
    volume_.space_.made_durable(sealed_);
    publish();
    if (CommitHook* hook = volume_.hook_) hook->on_durable(sealed_.generation);
  }
  if (swap_ && swap_->outcome) swap_->outcome({swapped_, swap_reason_});
  return result;
}

Result<void> Volume::Commit::make_durable() {
  TRY(volume_.drain_buffer());
  TRY(write_chunk_table());
  mark_target();
  TRY(flush_devices());
  ask_replace();
  take_absences();
  if (swap_) try_swap();
  return write_superblocks();
}

std::vector<Volume::Commit::Member> Volume::Commit::members() const {
  std::vector<Member> all;
  for (const auto& [devid, device] : volume_.mapper_.current()->devices()) {
    all.push_back({devid, device.get()});
  }
  return all;
}

/// Runs one request for each member of `on`. A member that fails is put out; else its failure is
/// returned, with its place.
Result<void> Volume::Commit::run_on_members(std::span<const Member> on,
                                            std::vector<IoRequest>& requests) {
  ASSERT(requests.size() == on.size());
  volume_.engine_.run(requests);
  return judge(on, requests);
}

Result<void> Volume::Commit::judge(std::span<const Member> on,
                                   std::span<const IoRequest> requests) {
  std::vector<Fault> faults;
  for (size_t i = 0; i < on.size(); ++i) {
    if (requests[i].result) continue;
    faults.push_back({on[i].devid, on[i].device,
                      located(requests[i].result.error(), on[i].devid, requests[i].offset)});
  }
  return volume_.survive(faults);
}

/// Not written if nothing has changed. A swap always writes it: the target has none yet.
Result<void> Volume::Commit::write_chunk_table() {
  if (!first_ && !sealed_.chunks_changed && !swap_) return ok();
  TRY(auto blob, encode_chunk_table(*sealed_.chunks, next_.volume,
                                    {next_.devices, sealed_.next_logical, sealed_.generation}));
  AlignedBuffer padded(round_up(blob.size(), kBlockSize));
  padded.fill_zero();
  std::memcpy(padded.data(), blob.data(), blob.size());
  const uint8_t slot = first_ ? 0 : 1 - next_.chunk_table.slot;
  next_.chunk_table = {slot, static_cast<uint32_t>(blob.size()), checksum_of(blob),
                       sealed_.generation};

  const auto on = members();
  const uint64_t offset = kChunkTableOffsets[slot];
  std::vector<IoRequest> requests;
  for (const Member& member : on) {
    requests.push_back(IoRequest::make_write(member.device, offset, padded.span()));
  }
  const auto map = volume_.mapper_.current();
  if (swap_ && map->duplication()) {
    Device& target = *map->duplication()->target;
    auto written = volume_.engine_.write(target, offset, padded.span());
    if (written) {
      table_on_target_ = true;
    } else {
      volume_.report_target_fault(IoOp::write,
                                  located(written.error(), map->duplication()->source, offset));
    }
  }
  return run_on_members(on, requests);
}

/// Writes this generation into the target's superblock. See target_superblock().
void Volume::Commit::mark_target() {
  const auto map = volume_.mapper_.current();
  if (!map->duplication()) return;
  Uuid uuid;
  {
    std::lock_guard lock(volume_.mutex_);
    uuid = volume_.target_uuid_;
  }
  if (uuid.is_nil()) return;
  const DeviceId devid = map->duplication()->source;
  const unsigned copy = sealed_.generation.value % 2;
  const uint64_t offset = kSuperblockOffsets[copy];
  auto written = encode(target_superblock(next_, devid, uuid), copy);
  if (written) {
    const AlignedBuffer& buffer = written.value();
    auto done = volume_.engine_.write(*map->duplication()->target, offset, buffer.span());
    if (done) return;
    written = done.error();
  }
  volume_.report_target_fault(IoOp::write, located(written.error(), devid, offset));
}

Result<void> Volume::Commit::flush_devices() {
  const auto map = volume_.mapper_.current();
  const auto on = members();
  std::vector<IoRequest> requests;
  for (const Member& member : on) requests.push_back(IoRequest::make_flush(member.device));
  if (map->duplication()) {
    requests.push_back(IoRequest::make_flush(map->duplication()->target.get()));
  }
  volume_.engine_.run(requests);
  if (map->duplication()) {
    const IoRequest& of_target = requests.back();
    if (of_target.result) {
      target_flushed_ = !swap_ || table_on_target_;
    } else {
      volume_.report_target_fault(IoOp::flush,
                                  located(of_target.result.error(), map->duplication()->source, 0));
    }
  }
  return judge(on, requests);
}

void Volume::Commit::ask_replace() {
  CommitHook* hook = volume_.hook_;
  if (hook == nullptr) return;
  next_.replace_payload = hook->on_flushed(sealed_.generation, target_flushed_);
  ASSERT(next_.replace_payload.size() <= format::kMaxReplacePayload);
}

/// Copy 0 on all members, flush, copy 1 on all. See the head of this file. If a device is put out
/// meanwhile, all is written once more: then the superblocks say so (C5).
Result<void> Volume::Commit::write_superblocks() {
  target_is_written_ = swapped_;
  take_absences();
  for (;;) {
    TRY(write_copies(0));
    TRY(flush_members());
    bool changed = take_absences();
    if (!changed) {  // copy 1 says that copy 0 is durable on all members
      TRY(write_copies(1));
      if (first_) {
        TRY(flush_members());
      }
      changed = take_absences();
    }
    if (!changed) return ok();
    target_is_written_ = false;
  }
}

Result<void> Volume::Commit::flush_members() {
  const auto on = members();
  std::vector<IoRequest> flushes;
  for (const Member& member : on) flushes.push_back(IoRequest::make_flush(member.device));
  return run_on_members(on, flushes);
}

/// Takes over which devices are out now. True if that has changed.
bool Volume::Commit::take_absences() {
  bool changed = false;
  std::lock_guard lock(volume_.mutex_);
  for (DeviceEntry& entry : next_.devices) {
    for (const DeviceEntry& now : volume_.entries_) {
      if (now.uuid != entry.uuid) continue;
      changed |= entry.out != now.out;
      entry.out = now.out;
    }
  }
  update_features(next_);
  return changed;
}

Result<void> Volume::Commit::write_copies(unsigned copy) {
  const auto map = volume_.mapper_.current();
  std::vector<Member> on;
  std::vector<AlignedBuffer> buffers;
  std::vector<IoRequest> requests;
  for (const DeviceEntry& entry : next_.devices) {
    if (target_is_written_ && entry.devid == swap_->source) continue;  // and verified
    const auto found = map->devices().find(entry.devid);
    if (entry.out || found == map->devices().end()) continue;  // C2
    Superblock own = next_;
    own.role = DeviceRole::member;
    own.devid = entry.devid;
    own.device = entry.uuid;
    TRY(auto buffer, encode(own, copy));
    Device* device = found->second.get();
    on.push_back({entry.devid, device});
    requests.push_back(IoRequest::make_write(device, kSuperblockOffsets[copy], buffer.span()));
    buffers.push_back(std::move(buffer));
  }
  return run_on_members(on, requests);
}

// ---- The swap (volume.h, steps a to d)

void Volume::Commit::swap_failed(std::string reason) {
  swap_reason_ = std::move(reason);
  // The target's superblock may have the same generation, and the source's must win.
  next_.pending_swap.reset();
  std::lock_guard lock(volume_.mutex_);
  volume_.pending_swap_.reset();
}

void Volume::Commit::try_swap() {
  // A device that comes back is not announced: without it the volume goes on as it was.
  const bool comes_back =
      std::any_of(next_.devices.begin(), next_.devices.end(),
                  [&](const DeviceEntry& entry) { return entry.uuid == swap_->target.uuid; });
  if (!comes_back && announced_ != swap_->target.uuid) {
    return swap_failed("no commit before has announced it");
  }
  if (!table_on_target_ || !target_flushed_) return swap_failed("the target failed");
  auto map = volume_.mapper_.current();
  if (!map->duplication() || map->duplication()->source != swap_->source) {
    return swap_failed("duplication is off");
  }
  auto target = map->duplication()->target;
  source_ = volume_.device(swap_->source);  // null: it is out
  swap_->target.size_bytes = round_down(target->size_bytes(), kBlockSize);

  Superblock swapped = next_;
  swapped.pending_swap.reset();
  for (DeviceEntry& entry : swapped.devices) {
    if (entry.devid != swap_->source) continue;
    source_uuid_ = entry.uuid;
    // A device that comes back takes its own place.
    if (entry.uuid != swap_->target.uuid) {
      swapped.predecessor = {entry.devid, entry.uuid, entry.path};
    }
    entry = swap_->target;
  }
  update_features(swapped);
  swapped.role = DeviceRole::member;
  swapped.devid = swap_->source;
  swapped.device = swap_->target.uuid;
  successor_ = {swap_->source, swap_->target.uuid, swap_->target.path};
  auto fits =
      validate_chunks(*sealed_.chunks, {swapped.devices, next_.next_logical, sealed_.generation});
  if (!fits) return swap_failed(fits.error().message());

  volume_.window_.open(target);
  // Within the window: duplication that was switched off earlier shows here, and a task that
  // switches it off from now on spoils the window.
  std::string reason;
  CommitHook* hook = volume_.hook_;
  if (!volume_.mapper_.current()->duplication() ||
      (hook != nullptr && !hook->duplication_stands())) {
    reason = "duplication broke";
  } else {
    target_ = target;
    auto written = write_target_superblock(*target, swapped);
    if (!written) {
      swap_fault_ = located(written.error(), swap_->source, kSuperblockOffsets[0]);
      reason = "the target's superblock: " + written.error().message();
    } else if (!volume_.window_.close_done()) {
      reason = "a write to the target failed";
    }
  }
  if (!reason.empty()) {
    volume_.window_.close_failed();
    return swap_failed(std::move(reason));
  }
  swapped_ = true;
  next_ = std::move(swapped);
  volume_.put_target_in_place(swap_->target, std::move(target));
}

Result<void> Volume::Commit::write_target_superblock(Device& target, const Superblock& superblock) {
  TRY(write_superblock(volume_.engine_, target, superblock));
  return verify_superblock(volume_.engine_, target, superblock);
}

/// Writes into the source's superblock which device has replaced it. The source may be broken; the
/// target's superblock counts anyway.
void Volume::Commit::retire_source() {
  if (!source_) return;
  Superblock replaced = next_;
  replaced.role = DeviceRole::replaced;
  replaced.device = source_uuid_;
  replaced.devid = swap_->source;
  replaced.successor = successor_;
  if (swap_->keep_source) replaced.compatible_features |= format::kFeatureHasLostBlocks;
  auto written = write_superblock(volume_.engine_, *source_, replaced);
  if (written) written = volume_.engine_.flush(*source_);
  if (!written) {
    log_warning("{}: could not be marked as replaced: {}", source_->path(),
                written.error().message());
  }
}

/// The swap failed after the target's superblock was begun, and the source's superblock is durable.
/// Makes the target a target again. It tries more than once, so that a target with a passing fault
/// keeps its place. If all attempts fail, it tries to wipe the target's superblocks.
void Volume::Commit::demote_target() {
  constexpr unsigned kAttempts = 3;
  const Superblock demoted = target_superblock(next_, swap_->source, swap_->target.uuid);
  Result<void> written = ok();
  for (unsigned attempt = 0; attempt < kAttempts; ++attempt) {
    written = write_superblock(volume_.engine_, *target_, demoted);
    if (written) written = volume_.engine_.flush(*target_);
    if (written) return;
  }
  written = wipe_superblocks(volume_.engine_, *target_);
  if (!written) {
    log_warning("{}: its superblock could not be taken back after a failed swap: {}",
                target_->path(), written.error().message());
  }
}

void Volume::Commit::publish() {
  next_.role = DeviceRole::member;
  next_.devid = first_in(next_.devices).devid;
  next_.device = first_in(next_.devices).uuid;
  next_.successor.reset();
  std::lock_guard lock(volume_.mutex_);
  volume_.durable_ = next_;
}

// ---- Volume

Superblock target_superblock(Superblock of_volume, DeviceId devid, const Uuid& device) {
  Superblock superblock = std::move(of_volume);
  superblock.role = DeviceRole::target;
  superblock.devid = devid;
  superblock.device = device;
  superblock.replace_payload.clear();
  superblock.pending_swap.reset();
  superblock.predecessor.reset();
  superblock.successor.reset();
  superblock.compatible_features &= ~format::kFeatureHasLostBlocks;
  superblock.compatible_features |= format::kFeatureTargetFollows;
  return superblock;
}

Space::Sealed Volume::seal(Generation closing) {
  Space::Sealed sealed = space_.seal(closing);
  if (CommitHook* hook = hook_) hook->on_seal(closing);
  std::lock_guard lock(mutex_);
  if (swap_request_ && !swap_request_->sealed) swap_request_->sealed = closing;
  sealed.swaps = swap_request_.has_value();
  return sealed;
}

Result<void> Volume::finish_commit(const Space::Sealed& sealed, std::vector<std::byte> fs_payload) {
  if (read_only_) return Error(Errc::read_only);
  return Commit(*this, sealed, std::move(fs_payload)).run();
}

void Volume::free_removed(const Space::Sealed& sealed) {
  {
    // The guard keeps the devices in use: disarm() waits for these discards.
    const MapGuard guard = acquire_map();
    const Map& map = guard.map();
    std::vector<IoRequest> requests;
    const auto add = [&requests](Device* device, const Stripe& stripe, uint64_t length) {
      if (!device->can_discard()) return;
      requests.push_back(IoRequest::make_discard(device, stripe.offset.value, length));
    };
    for (const auto& chunk : sealed.removed) {
      for (const Stripe& stripe : chunk->stripes) {
        const auto device = map.devices().find(stripe.device);
        if (device == map.devices().end()) continue;
        add(device->second.get(), stripe, chunk->stripe_length());
        if (map.duplication() && map.duplication()->source == stripe.device) {
          add(map.duplication()->target.get(), stripe, chunk->stripe_length());
        }
      }
    }
    if (!requests.empty()) engine_.run(requests);
  }
  space_.committed(sealed);
}

}  // namespace moltfs::alloc
