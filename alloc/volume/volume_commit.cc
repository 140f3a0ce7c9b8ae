// SPDX-License-Identifier: MIT
// One commit: chunk table, flush, swap if asked for, superblocks; then what it made free.
//
// Which write may be lost when, in the order of things (G is the commit, G-1 the one before):
//   chunk table   goes to the slot that G-1 does not name; durable with the first flush.
//   first flush   makes everything of G durable, and copy 1 of G-1, before copy 0 is touched: so
//                 while copy 0 is torn, copy 1 tells of G-1.
//   copy 0        durable with the second flush: G is durable. Nothing before that depends on it.
//   copy 1        not flushed here. Until the next commit's first flush it may be torn or be that
//                 of G-1: then copy 0 counts, which is whole. A device that is closed for good (the
//                 source of a swap, mkfs) is flushed.
#include <fmt/format.h>

#include <cstring>

#include "alloc/base/assert.h"
#include "alloc/base/checksum.h"
#include "alloc/base/log.h"
#include "alloc/base/uuid.h"
#include "alloc/disk/chunk_table.h"
#include "alloc/disk/format.h"
#include "alloc/volume/volume_impl.h"

namespace moltfs::alloc {

namespace {

class Commit {
 public:
  Commit(Volume::Impl& volume, const Space::Sealed& sealed, std::vector<std::byte> fs_payload);
  Result<void> run();

 private:
  struct Member {
    DeviceId devid;
    Device* device;
  };
  using Map = alloc::Map;

  Result<void> make_durable();
  Result<void> write_chunk_table();
  Result<void> flush_devices();
  void ask_replace();
  Result<void> write_superblocks();
  Result<void> write_copies(unsigned copy);

  void try_swap();
  void swap_failed(std::string reason);
  Result<void> write_target_superblock(Device& target, const Superblock& superblock);
  void retire_source();
  void demote_target();
  void discard_removed();
  void publish();

  std::vector<Member> members() const;
  Result<void> run_on_members(std::span<const Member> on, std::vector<IoRequest>& requests);
  void count(const Device* device, uint64_t bytes);

  Volume::Impl& volume_;
  const Space::Sealed& sealed_;
  std::optional<SwapRequest> swap_;
  Superblock next_;
  std::optional<Uuid> announced_;  // pending_swap of the commit before
  bool first_ = false;             // of the volume's life
  bool target_flushed_ = false, table_on_target_ = false;

  // Set by try_swap. The outcome, and the devices on both sides.
  bool swapped_ = false;
  std::string swap_reason_;
  std::optional<Error> swap_fault_;          // of the target, to be told to the hook
  std::shared_ptr<Device> source_, target_;  // target_: its superblock may say "member"
  Superblock::Succession successor_;         // what the source's superblock is to say
  Uuid source_uuid_;
};

Commit::Commit(Volume::Impl& volume, const Space::Sealed& sealed, std::vector<std::byte> fs_payload)
    : volume_(volume),
      sealed_(sealed),
      swap_(volume.take_swap_request(sealed.generation)),
      next_(volume.next_superblock()) {
  first_ = next_.generation.value == 0;
  {
    std::lock_guard lock(volume.mutex);
    if (volume.durable.pending_swap) announced_ = volume.durable.pending_swap->uuid;
  }
  next_.generation = sealed.generation;
  next_.next_logical = sealed.next_logical;
  next_.fs_payload = std::move(fs_payload);
}

Result<void> Commit::run() {
  auto result = make_durable();
  if (swap_ && !swapped_ && swap_reason_.empty()) {
    swap_failed("the commit failed: " + result.error().message());
  }
  if (result && target_ && !swapped_) demote_target();
  if (swapped_) retire_source();
  if (swap_fault_) volume_.report_target_fault(IoOp::write, *swap_fault_);
  if (result) {
    discard_removed();
    volume_.space.committed(sealed_);
    publish();
    if (CommitHook* hook = volume_.hook()) hook->on_durable(sealed_.generation);
  }
  if (swap_ && swap_->outcome) swap_->outcome({swapped_, swap_reason_});
  return result;
}

Result<void> Commit::make_durable() {
  volume_.write_delayed();
  TRY(write_chunk_table());
  TRY(flush_devices());
  ask_replace();
  if (swap_) try_swap();
  return write_superblocks();
}

std::vector<Commit::Member> Commit::members() const {
  std::vector<Member> all;
  for (const auto& [devid, device] : volume_.mapper.current()->devices()) {
    all.push_back({devid, device.get()});
  }
  return all;
}

void Commit::count(const Device* device, uint64_t bytes) {
  volume_.overhead_bytes += bytes;
  const auto map = volume_.mapper.current();
  const bool to_target = target_ ? device == target_.get()
                                 : map->duplication() && device == map->duplication()->target.get();
  if (to_target) volume_.target_overhead_bytes += bytes;
}

/// Runs one request for each member of `on`; the first failure, located.
Result<void> Commit::run_on_members(std::span<const Member> on, std::vector<IoRequest>& requests) {
  ASSERT(requests.size() == on.size());
  volume_.engine.run(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const IoRequest& request = requests[i];
    if (!request.result) return located(request.result.error(), on[i].devid, request.offset);
    if (request.op == IoOp::write) count(request.device, request.length);
  }
  return ok();
}

/// A swap always writes it: the target has none yet.
Result<void> Commit::write_chunk_table() {
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
  const auto map = volume_.mapper.current();
  if (swap_ && map->duplication()) {
    Device& target = *map->duplication()->target;
    auto written = volume_.engine.write(target, offset, padded.span());
    if (written) {
      count(&target, padded.size());
      table_on_target_ = true;
    } else {
      volume_.report_target_fault(IoOp::write,
                                  located(written.error(), map->duplication()->source, offset));
    }
  }
  return run_on_members(on, requests);
}

Result<void> Commit::flush_devices() {
  const auto map = volume_.mapper.current();
  const auto on = members();
  std::vector<IoRequest> requests;
  for (const Member& member : on) requests.push_back(IoRequest::make_flush(member.device));
  if (map->duplication()) {
    requests.push_back(IoRequest::make_flush(map->duplication()->target.get()));
  }
  volume_.engine.run(requests);
  if (map->duplication()) {
    const IoRequest& of_target = requests.back();
    if (of_target.result) {
      target_flushed_ = !swap_ || table_on_target_;
    } else {
      volume_.report_target_fault(IoOp::flush,
                                  located(of_target.result.error(), map->duplication()->source, 0));
    }
  }
  for (size_t i = 0; i < on.size(); ++i) {
    if (!requests[i].result) return located(requests[i].result.error(), on[i].devid, 0);
  }
  return ok();
}

void Commit::ask_replace() {
  CommitHook* hook = volume_.hook();
  if (hook == nullptr) return;
  next_.replace_payload = hook->on_flushed(sealed_.generation, target_flushed_);
  ASSERT(next_.replace_payload.size() <= format::kMaxReplacePayload);
}

/// Copy 0 on all, flush, copy 1 on all; see the head of this file.
Result<void> Commit::write_superblocks() {
  TRY(write_copies(0));
  const auto on = members();
  std::vector<IoRequest> flushes;
  for (const Member& member : on) flushes.push_back(IoRequest::make_flush(member.device));
  TRY(run_on_members(on, flushes));
  TRY(write_copies(1));
  if (!first_) return ok();
  return run_on_members(on, flushes);
}

Result<void> Commit::write_copies(unsigned copy) {
  const auto map = volume_.mapper.current();
  std::vector<Member> on;
  std::vector<AlignedBuffer> buffers;
  std::vector<IoRequest> requests;
  for (const DeviceEntry& entry : next_.devices) {
    if (swapped_ && entry.devid == swap_->source) continue;  // both copies are there, verified
    Superblock own = next_;
    own.role = DeviceRole::member;
    own.devid = entry.devid;
    own.device = entry.uuid;
    TRY(auto buffer, encode(own, copy));
    Device* device = map->devices().at(entry.devid).get();
    on.push_back({entry.devid, device});
    requests.push_back(IoRequest::make_write(device, kSuperblockOffsets[copy], buffer.span()));
    buffers.push_back(std::move(buffer));
  }
  return run_on_members(on, requests);
}

// ---- The swap (volume.h, steps a to d)

void Commit::swap_failed(std::string reason) {
  swap_reason_ = std::move(reason);
  // The source is to win against a target that may bear the same generation.
  next_.pending_swap.reset();
  std::lock_guard lock(volume_.mutex);
  volume_.pending_swap.reset();
}

void Commit::try_swap() {
  if (announced_ != swap_->target.uuid) return swap_failed("no commit before has announced it");
  if (!table_on_target_ || !target_flushed_) return swap_failed("the target failed");
  auto map = volume_.mapper.current();
  if (!map->duplication() || map->duplication()->source != swap_->source) {
    return swap_failed("duplication is off");
  }
  auto target = map->duplication()->target;
  source_ = map->devices().at(swap_->source);
  swap_->target.size_bytes = round_down(target->size_bytes(), kBlockSize);

  Superblock swapped = next_;
  swapped.pending_swap.reset();
  for (DeviceEntry& entry : swapped.devices) {
    if (entry.devid != swap_->source) continue;
    source_uuid_ = entry.uuid;
    swapped.predecessor = {entry.devid, entry.uuid, entry.path};
    entry = swap_->target;
  }
  swapped.role = DeviceRole::member;
  swapped.devid = swap_->source;
  swapped.device = swap_->target.uuid;
  successor_ = {swap_->source, swap_->target.uuid, swap_->target.path};
  auto fits =
      validate_chunks(*sealed_.chunks, {swapped.devices, next_.next_logical, sealed_.generation});
  if (!fits) return swap_failed(fits.error().message());

  volume_.window.open(target);
  // Asked within the window: whoever switched duplication off earlier shows here, and whoever does
  // it from now on spoils the window.
  std::string reason;
  CommitHook* hook = volume_.hook();
  if (!volume_.mapper.current()->duplication() ||
      (hook != nullptr && !hook->duplication_stands())) {
    reason = "duplication broke";
  } else {
    target_ = target;
    auto written = write_target_superblock(*target, swapped);
    if (!written) {
      swap_fault_ = located(written.error(), swap_->source, kSuperblockOffsets[0]);
      reason = "the target's superblock: " + written.error().message();
    } else if (!volume_.window.close_done()) {
      reason = "a write to the target failed";
    }
  }
  if (!reason.empty()) {
    volume_.window.close_failed();
    return swap_failed(std::move(reason));
  }
  swapped_ = true;
  next_ = std::move(swapped);
  volume_.put_target_in_place(swap_->target, std::move(target));
}

Result<void> Commit::write_target_superblock(Device& target, const Superblock& superblock) {
  TRY(auto size, encode(superblock));
  TRY(write_superblock(volume_.engine, target, superblock));
  count(&target, 2 * size.size());
  return verify_superblock(volume_.engine, target, superblock);
}

/// The source says by whom it was replaced. It may be broken; the target's superblock counts
/// anyway.
void Commit::retire_source() {
  Superblock replaced = next_;
  replaced.role = DeviceRole::replaced;
  replaced.device = source_uuid_;
  replaced.devid = swap_->source;
  replaced.successor = successor_;
  auto written = write_superblock(volume_.engine, *source_, replaced);
  if (written) written = volume_.engine.flush(*source_);
  if (!written) {
    log_warning("{}: could not be marked as replaced: {}", source_->path(),
                written.error().message());
  }
}

/// The swap failed after the target's superblock was begun, and the source's is durable. A target
/// that fails now and then must not lose its place by that, hence more than one attempt; one that
/// cannot be written at all is wiped, if that works.
void Commit::demote_target() {
  constexpr unsigned kAttempts = 3;
  Superblock demoted = next_;
  demoted.role = DeviceRole::target;
  demoted.devid = swap_->source;
  demoted.device = swap_->target.uuid;
  Result<void> written = ok();
  for (unsigned attempt = 0; attempt < kAttempts; ++attempt) {
    written = write_superblock(volume_.engine, *target_, demoted);
    if (written) written = volume_.engine.flush(*target_);
    if (written) return;
  }
  written = wipe_superblocks(volume_.engine, *target_);
  if (!written) {
    log_warning("{}: its superblock could not be taken back after a failed swap: {}",
                target_->path(), written.error().message());
  }
}

// ---- Afterwards

/// Best effort: a device that fails to discard keeps old bytes, no more.
void Commit::discard_removed() {
  const auto map = volume_.mapper.current();
  std::vector<IoRequest> requests;
  auto add = [&requests](Device* device, const Stripe& stripe, uint64_t length) {
    if (!device->can_discard()) return;
    requests.push_back(IoRequest::make_discard(device, stripe.offset.value, length));
  };
  for (const auto& chunk : sealed_.removed) {
    for (const Stripe& stripe : chunk->stripes) {
      auto device = map->devices().find(stripe.device);
      if (device == map->devices().end()) continue;
      add(device->second.get(), stripe, chunk->stripe_length());
      if (map->duplication() && map->duplication()->source == stripe.device) {
        add(map->duplication()->target.get(), stripe, chunk->stripe_length());
      }
    }
  }
  if (!requests.empty()) volume_.engine.run(requests);
}

void Commit::publish() {
  next_.role = DeviceRole::member;
  next_.devid = next_.devices.front().devid;
  next_.device = next_.devices.front().uuid;
  next_.successor.reset();
  std::lock_guard lock(volume_.mutex);
  volume_.durable = next_;
}

}  // namespace

Result<void> Volume::finish_commit(const Space::Sealed& sealed, std::vector<std::byte> fs_payload) {
  if (impl_->read_only) return Error(Errc::read_only);
  return Commit(*impl_, sealed, std::move(fs_payload)).run();
}

}  // namespace moltfs::alloc
