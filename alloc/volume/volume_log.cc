// SPDX-License-Identifier: MIT
// The fsync log on a volume's devices: finding what a crash left, and writing batches.
#include <algorithm>

#include "alloc/base/log.h"
#include "alloc/volume/volume_impl.h"

namespace moltfs::alloc {

/// Nothing that is wrong with the log keeps a volume from being opened: a block that cannot be read
/// is the end of the log, if it has come so far.
FoundLog Volume::Impl::read_log_from(Device& device) {
  AlignedBuffer area(kLogBytes);
  const uint64_t offset = kLogOffsets[durable.generation.value % 2];
  const LogBase base{durable.volume, durable.generation, durable.log_id};
  // Most often there is nothing, and the first block says so.
  const Bytes first = area.span().first(kBlockSize);
  if (engine.read(device, offset, first) && !read_log(first, base, entries).begun) {
    return FoundLog();
  }
  if (!engine.read(device, offset, area.span())) {
    for (uint64_t at = 0; at < kLogBytes; at += kBlockSize) {
      const Bytes block = area.span().subspan(at, kBlockSize);
      auto read = engine.read(device, offset + at, block);
      if (read) continue;
      log_warning("{}: the fsync log ends at a bad block: {}", device.path(),
                  read.error().message());
      std::fill(area.data() + at, area.data() + kLogBytes, std::byte{0});
      break;
    }
  }
  return read_log(area.span(), base, entries);
}

/// The chunks that batches name must fit the table; from the first that do not the log is ignored.
void Volume::Impl::find_log() {
  if (durable.log_id == 0) return;
  const auto map = mapper.current();
  size_t asked = 0;
  for (const auto& [devid, device] : map->devices()) {
    if (asked++ == kLogDevices) break;
    FoundLog log = read_log_from(*device);
    if (log.batches.size() > found_log.batches.size()) found_log.batches = std::move(log.batches);
    found_log.begun |= log.begun;
  }
  ChunkList all = map->chunks(), logged;
  auto& batches = found_log.batches;
  for (size_t i = 0; i < batches.size(); ++i) {
    const ChunkList& chunks = batches[i].chunks;
    all.insert(all.end(), chunks.begin(), chunks.end());
    auto fits = validate_chunks(all, {entries, LogicalOffset(kMaxLogical), batches[i].running});
    const bool only_data = std::all_of(chunks.begin(), chunks.end(), [](const auto& chunk) {
      return chunk->kind == ChunkKind::data;
    });
    if (!fits || !only_data) {
      log_warning("the fsync log ends at batch {}, whose chunks do not fit", i);
      batches.resize(i);
      break;
    }
    logged.insert(logged.end(), chunks.begin(), chunks.end());
  }
  if (!logged.empty()) space.add_logged(logged);
}

std::optional<LogChain> Volume::Impl::log_on(Generation base) const {
  std::lock_guard lock(mutex);
  const uint64_t id = base == durable.generation ? durable.log_id : log_id;
  if (read_only || base.value == 0 || id == 0) return std::nullopt;
  return LogChain({durable.volume, base, id});
}

Result<void> Volume::Impl::flush_members(const Map& map) {
  boost::container::small_vector<IoRequest, 4> requests;
  for (const auto& [devid, device] : map.devices()) {
    requests.push_back(IoRequest::make_flush(device.get()));
  }
  engine.run({requests.data(), requests.size()});
  auto member = map.devices().begin();
  for (const IoRequest& request : requests) {
    if (!request.result) return located(request.result.error(), member->first, 0);
    ++member;
  }
  return ok();
}

/// Content and log in parallel: the order in which they reach the devices does not matter (L2).
Result<bool> Volume::Impl::write_log(std::span<const LogWrite> writes, bool flush_first) {
  if (read_only) return Error(Errc::read_only);
  if (flush_first) {
    write_delayed();
    TRY(flush_members(*mapper.current()));
  }
  const auto batch = delayed.take();
  // Not before: a chunk may have been made for what is in the batch.
  const MapGuard guard = mapper.acquire();
  const Map& map = guard.map();
  Plan plan;
  if (batch) plan = plan_batch(map, *batch);
  const size_t content = plan.segments.size();
  boost::container::small_vector<DeviceId, 4> whose;
  size_t carriers = 0;
  for (const auto& [devid, device] : map.devices()) {
    if (carriers++ == kLogDevices) break;
    for (const LogWrite& write : writes) {
      plan.requests.push_back(
          IoRequest::make_write(device.get(), write.offset, write.bytes.span()));
      whose.push_back(devid);
    }
  }
  const std::span all(plan.requests.data(), plan.requests.size());
  engine.run(all);
  if (batch) end_batch(guard, *batch, judge_writes(map, plan));
  delayed.wait_for_taken();
  for (size_t i = content; i < all.size(); ++i) {
    if (!all[i].result) return located(all[i].result.error(), whose[i - content], all[i].offset);
    overhead_bytes += all[i].length;
  }
  TRY(flush_members(map));
  return !content_lost;
}

}  // namespace moltfs::alloc
