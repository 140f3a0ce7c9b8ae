// SPDX-License-Identifier: MIT
// Volume: the fsync log on the devices. Finding what a crash left, and writing batches.
#include <algorithm>

#include "alloc/base/log.h"
#include "alloc/volume/volume.h"

namespace moltfs::alloc {

Generation Volume::first_generation() const {
  return superblock().generation + (found_log_.batches.empty() ? 1 : kReplayStep);
}

// ---- Finding the log

/// A damaged log does not keep a volume from being opened: the log ends at a block that cannot be
/// read, unless it has ended before.
FoundLog Volume::read_log_from(Device& device) {
  AlignedBuffer area(kLogBytes);
  const uint64_t offset = kLogOffsets[durable_.generation.value % 2];
  const LogBase base{durable_.volume, durable_.generation, durable_.log_id};
  // In most cases the log is empty, and the first block shows it.
  const Bytes first = area.span().first(kBlockSize);
  if (engine_.read(device, offset, first) && !read_log(first, base, entries_).begun) {
    return FoundLog();
  }
  if (!engine_.read(device, offset, area.span())) {
    for (uint64_t at = 0; at < kLogBytes; at += kBlockSize) {
      const Bytes block = area.span().subspan(at, kBlockSize);
      auto read = engine_.read(device, offset + at, block);
      if (read) continue;
      log_warning("{}: the fsync log ends at a bad block: {}", device.path(),
                  read.error().message());
      std::fill(area.data() + at, area.data() + kLogBytes, std::byte{0});
      break;
    }
  }
  return read_log(area.span(), base, entries_);
}

/// Reads the chain on the durable superblock. Its chunks must fit the chunk table; the log ends
/// before the first batch whose chunks do not. Called before other tasks use the volume.
void Volume::find_log() {
  if (durable_.log_id == 0) return;
  const auto map = mapper_.current();
  size_t asked = 0;
  for (const auto& [devid, device] : map->devices()) {
    if (asked++ == log_device_count_) break;
    FoundLog log = read_log_from(*device);
    if (log.batches.size() > found_log_.batches.size()) {
      found_log_.batches = std::move(log.batches);
    }
    found_log_.begun |= log.begun;
  }
  ChunkList all = map->chunks(), logged;
  auto& batches = found_log_.batches;
  for (size_t i = 0; i < batches.size(); ++i) {
    const ChunkList& chunks = batches[i].chunks;
    all.insert(all.end(), chunks.begin(), chunks.end());
    const bool only_data = std::all_of(chunks.begin(), chunks.end(), [](const auto& chunk) {
      return chunk->kind == ChunkKind::data;
    });
    const auto fits = encode_chunk_table(
        all, durable_.volume, {entries_, LogicalOffset(kMaxLogical), batches[i].running});
    if (!fits || !only_data) {
      log_warning("the fsync log ends at batch {}, whose chunks do not fit", i);
      batches.resize(i);
      break;
    }
    logged.insert(logged.end(), chunks.begin(), chunks.end());
  }
  if (!logged.empty()) space_.add_logged(logged);
}

// ---- Writing it

std::optional<LogChain> Volume::log_on(Generation base) const {
  std::lock_guard lock(mutex_);
  const uint64_t id = base == durable_.generation ? durable_.log_id : log_id_;
  if (read_only_ || base.value == 0 || id == 0) return std::nullopt;
  return LogChain({durable_.volume, base, id});
}

Result<void> Volume::flush_members(const Map& map) {
  boost::container::small_vector<IoRequest, 4> requests;
  for (const auto& [devid, device] : map.devices()) {
    requests.push_back(IoRequest::make_flush(device.get()));
  }
  engine_.run({requests.data(), requests.size()});
  std::vector<Fault> faults;
  auto member = map.devices().begin();
  for (const IoRequest& request : requests) {
    const auto& [devid, device] = *member++;
    if (request.result) continue;
    faults.push_back({devid, device.get(), located(request.result.error(), devid, 0)});
  }
  return survive(faults);
}

/// Buffered writes and batches are written in parallel: the order in which they reach the devices
/// does not matter (L2).
Result<bool> Volume::write_log(std::span<const LogWrite> writes, bool flush_first) {
  if (read_only_) return Error(Errc::read_only);
  const auto check_absences = [this]() -> Result<void> {
    if (absences_are_durable()) return ok();
    return Error(Errc::missing_device, "a device is out, and no commit has recorded that yet");
  };
  TRY(check_absences());
  // Batches that were put back are older than the one that is taken below, and are written first.
  if (flush_first || buffer_.has_put_back()) {
    TRY(drain_buffer());
  }
  if (flush_first) {
    TRY(flush_members(*mapper_.current()));
    TRY(check_absences());  // before a batch says that its data is flushed
  }
  const auto batch = buffer_.take();
  // Not earlier: a chunk may have been made for what is in the batch.
  const MapGuard guard = mapper_.acquire();
  const Map& map = guard.map();
  Plan plan;
  if (batch) plan = plan_batch(map, *batch);
  const size_t buffered = plan.segments.size();
  boost::container::small_vector<DeviceId, 4> carriers;  // for each request after the buffered ones
  size_t asked = 0;
  for (const auto& [devid, device] : map.devices()) {
    if (asked++ == log_device_count_) break;
    for (const LogWrite& write : writes) {
      plan.requests.push_back(
          IoRequest::make_write(device.get(), write.offset, write.bytes.span()));
      carriers.push_back(devid);
    }
  }
  const std::span all(plan.requests.data(), plan.requests.size());
  engine_.run(all);
  Result<void> buffered_written = ok();
  if (batch) buffered_written = end_batch(guard, *batch, judge_writes(map, plan));
  buffer_.wait_for_taken();
  TRY(std::move(buffered_written));
  std::vector<Fault> faults;
  for (size_t i = buffered; i < all.size(); ++i) {
    if (all[i].result) continue;
    const DeviceId devid = carriers[i - buffered];
    faults.push_back({devid, all[i].device, located(all[i].result.error(), devid, all[i].offset)});
  }
  TRY(survive(faults));
  TRY(flush_members(map));
  TRY(check_absences());  // C5
  return !buffered_write_lost_;
}

}  // namespace moltfs::alloc
