// SPDX-License-Identifier: MIT
// Volume: reads, writes and discards by logical address, and what their failures mean.
#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "alloc/volume/volume.h"

namespace moltfs::alloc {

namespace {

template <class Requests>
std::span<IoRequest> span_of(Requests& requests) {
  return {requests.data(), requests.size()};
}

}  // namespace

// ---- Writing

/// The first failure on the target; all failures on the source that it is to replace, and on other
/// members.
struct Volume::Failures {
  std::optional<Error> target;
  std::vector<Fault> source, members;
};

Volume::Failures Volume::failures_of(const Map& map, std::span<const Segment> segments,
                                     std::span<const IoRequest> requests) {
  Failures failures;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].result) continue;
    const Segment& segment = segments[i];
    const bool of_source = map.duplication() && segment.devid == map.duplication()->source;
    Error error = located(requests[i].result.error(), segment.devid, segment.offset.value);
    if (segment.to_target) {
      if (!failures.target) failures.target = std::move(error);
    } else {
      auto& faults = of_source ? failures.source : failures.members;
      faults.push_back({segment.devid, segment.device, std::move(error)});
    }
  }
  return failures;
}

/// The target became the member after writes to it had failed and before anybody was told. Repeats
/// these writes: only a second failure is an error of a member.
Result<void> Volume::repeat_on_target(std::span<const Segment> segments,
                                      std::span<IoRequest> requests) {
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].result || !segments[i].to_target) continue;
    engine_.run({&requests[i], 1});
    if (!requests[i].result) {
      return located(requests[i].result.error(), segments[i].devid, segments[i].offset.value);
    }
  }
  return ok();
}

/// Judges the failures of a plan that was carried out. A failure on the target goes to the hook; one
/// on a member puts the member out, or is returned. While a swap is being decided, waits until it is known which of the
/// two devices is the member.
Result<void> Volume::judge_writes(const Map& map, Plan& plan) {
  const std::span<const Segment> segments(plan.segments.data(), plan.segments.size());
  const std::span<IoRequest> requests = span_of(plan.requests).first(segments.size());
  uint64_t to_target = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (segments[i].to_target && requests[i].result) to_target += segments[i].length;
  }
  duplicated_bytes_ += to_target;

  Failures failures = failures_of(map, segments, requests);
  if (failures.target || !failures.source.empty()) {
    const Device* target = map.duplication()->target.get();
    if (window_.target_is_member(target, failures.target.has_value())) {
      if (failures.target) {
        TRY(repeat_on_target(segments, requests));
      }
    } else {
      if (failures.target) {
        report_target_fault(IoOp::write, *failures.target);
        window_.end_report();
      }
      TRY(survive(failures.source));
    }
  }
  return survive(failures.members);
}

Result<void> Volume::run_writes(const Map& map, Plan& plan) {
  engine_.run(span_of(plan.requests));
  return judge_writes(map, plan);
}

void Volume::Plan::add(const Segment& segment, ConstBytes bytes) {
  segments.push_back(segment);
  requests.push_back(IoRequest::make_write(segment.device, segment.offset.value,
                                           bytes.subspan(segment.buffer_offset, segment.length)));
}

Result<void> Volume::Plan::add(const Map& map, const LogicalWrite& write) {
  TRY(auto places, map.for_write({write.at, write.bytes.size()}));
  for (const Segment& segment : places) add(segment, write.bytes);
  return ok();
}

Result<void> Volume::write(const MapGuard& guard, std::span<const LogicalWrite> writes) {
  if (read_only_) return Error(Errc::read_only);
  Plan plan;
  for (const LogicalWrite& write : writes) {
    buffer_.displace({write.at, write.bytes.size()});
    TRY(plan.add(guard.map(), write));
  }
  return run_writes(guard.map(), plan);
}

Result<void> Volume::repair(const MapGuard& guard, LogicalOffset at, ConstBytes bytes,
                            unsigned copy) {
  if (read_only_) return Error(Errc::read_only);
  const Map& map = guard.map();
  TRY(auto places, map.for_read({at, bytes.size()}, copy));
  Plan plan;
  for (const Segment& place : places) {
    plan.add(place, bytes);
    // R1 holds for this write, too.
    if (!map.duplicates(place.devid, {place.offset, place.length})) continue;
    Segment twin = place;
    twin.device = map.duplication()->target.get();
    twin.to_target = true;
    plan.add(twin, bytes);
  }
  return run_writes(map, plan);
}

// ---- Buffered writes

Result<void> Volume::write_buffered(const MapGuard& guard, std::span<const LogicalWrite> writes,
                                    uint64_t owner) {
  if (read_only_) return Error(Errc::read_only);
  uint64_t bytes = 0;
  for (const LogicalWrite& write : writes) bytes += write.bytes.size();
  if (bytes > WriteBuffer::kMaxWriteBytes) return this->write(guard, writes);
  for (const LogicalWrite& write : writes) {
    buffer_.displace({write.at, write.bytes.size()});
    while (!buffer_.add(write.at, write.bytes, owner)) {
      if (const auto batch = buffer_.take()) {
        TRY(write_batch(*batch));
      }
    }
  }
  return ok();
}

/// Writes everything that is in the buffer, and waits for batches that other tasks are writing.
/// Other failures on a member than device_full are left to write_failures().
Result<void> Volume::drain_buffer() {
  for (;;) {
    while (const auto batch = buffer_.take()) {
      TRY(write_batch(*batch));
    }
    buffer_.wait_for_taken();
    if (!buffer_.has_put_back()) return ok();
  }
}

/// Error: device_full; then the batch was put back.
Result<void> Volume::write_batch(const WriteBuffer::Batch& batch) {
  const MapGuard guard = mapper_.acquire();
  Plan plan = plan_batch(guard.map(), batch);
  return end_batch(guard, batch, run_writes(guard.map(), plan));
}

/// Neighbours go in one request. Writes to a chunk that was removed are dropped.
Volume::Plan Volume::plan_batch(const Map& map, const WriteBuffer::Batch& batch) const {
  Plan plan;
  LogicalWrite run;
  const auto end_run = [&] {
    if (run.bytes.empty() || map.chunk_of({run.at, run.bytes.size()}) == nullptr) return;
    const auto planned = plan.add(map, run);
    ASSERT(planned);
  };
  for (const WriteBuffer::Write& write : batch.writes) {
    const uint64_t length = run.bytes.size() + write.bytes.size();
    const bool continues = !run.bytes.empty() && run.at + run.bytes.size() == write.at &&
                           run.bytes.data() + run.bytes.size() == write.bytes.data() &&
                           map.chunk_of({run.at, length}) != nullptr;
    if (continues) {
      run.bytes = {run.bytes.data(), length};
      continue;
    }
    end_run();
    run = {write.at, write.bytes};
  }
  end_run();
  return plan;
}

Result<void> Volume::end_batch(const MapGuard& guard, const WriteBuffer::Batch& batch,
                               const Result<void>& written) {
  if (!written) {
    auto searched = find_lost(guard, batch);
    if (!searched) {
      buffer_.put_back(batch);
      return searched;
    }
  }
  buffer_.done(batch);
  return ok();
}

/// A part of the batch has failed. Repeats each write alone, to find out which owners lost data.
/// Error: device_full; then nobody has lost anything yet.
Result<void> Volume::find_lost(const MapGuard& guard, const WriteBuffer::Batch& batch) {
  std::vector<std::pair<uint64_t, Error>> lost;
  for (const WriteBuffer::Write& write : batch.writes) {
    if (guard.map().chunk_of({write.at, write.bytes.size()}) == nullptr) continue;
    Plan plan;
    auto again = plan.add(guard.map(), {write.at, write.bytes});
    if (again) again = run_writes(guard.map(), plan);
    if (again) continue;
    if (again.error() == Errc::device_full) return again;
    lost.emplace_back(write.owner, again.error());
  }
  for (const auto& [owner, error] : lost) {
    log_error("inode {}: data is lost: {}", owner, error.message());
    buffered_write_lost_ = true;
    write_failures_.add(owner, error);
  }
  return ok();
}

// ---- Reading

void Volume::read_batch(const MapGuard& guard, std::span<LogicalRead> reads, unsigned copy) {
  struct Origin {
    LogicalRead* read;
    Segment segment;
  };
  boost::container::small_vector<Origin, 8> origins;
  Requests requests;
  const auto add = [&](LogicalRead& read, LogicalOffset at, Bytes into) {
    auto places = guard.map().for_read({at, into.size()}, copy);
    if (!places) {
      read.result = places.error();
      return;
    }
    for (const Segment& segment : places.value()) {
      origins.push_back({&read, segment});
      requests.push_back(IoRequest::make_read(segment.device, segment.offset.value,
                                              into.subspan(segment.buffer_offset, segment.length)));
    }
  };
  for (LogicalRead& read : reads) {
    read.result = ok();
    if (buffer_.empty()) {
      add(read, read.at, read.into);
    } else {
      for (const auto& part : buffer_.read(read.at, read.into)) add(read, part.at, part.into);
    }
  }
  {
    const ReadsUnderWay under_way(span_of(requests));
    engine_.run(span_of(requests));
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].result) continue;
    const Segment& segment = origins[i].segment;
    origins[i].read->result =
        located(requests[i].result.error(), segment.devid, segment.offset.value);
  }
}

Result<void> Volume::read(const MapGuard& guard, LogicalOffset at, Bytes into, unsigned copy) {
  LogicalRead one{at, into};
  read_batch(guard, {&one, 1}, copy);
  return one.result;
}

unsigned Volume::copies_at(const MapGuard& guard, LogicalOffset at) const {
  const Chunk* chunk = guard.map().chunk_of({at, 1});
  return chunk == nullptr ? 0 : chunk->copies;
}

// ---- Discarding

bool Volume::can_discard() const {
  const auto map = mapper_.current();
  return std::any_of(map->devices().begin(), map->devices().end(),
                     [](const auto& device) { return device.second->can_discard(); });
}

uint64_t Volume::discard(std::span<const LogicalRange> ranges) {
  const MapGuard guard = acquire_map();
  std::vector<IoRequest> requests;
  std::vector<bool> on_member;  // for each request
  for (const LogicalRange& range : ranges) {
    const auto segments = guard.map().for_write(range);
    if (!segments) continue;
    for (const Segment& segment : segments.value()) {
      if (!segment.device->can_discard()) continue;
      requests.push_back(
          IoRequest::make_discard(segment.device, segment.offset.value, segment.length));
      on_member.push_back(!segment.to_target);
    }
  }
  engine_.run(requests);
  uint64_t bytes = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].result && on_member[i]) bytes += requests[i].length;
  }
  return bytes;
}

}  // namespace moltfs::alloc
