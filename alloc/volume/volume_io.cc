// SPDX-License-Identifier: MIT
// Reads and writes by logical address, and what their failures mean.
#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "alloc/volume/volume_impl.h"

namespace moltfs::alloc {

namespace {

template <class Requests>
std::span<IoRequest> span_of(Requests& requests) {
  return {requests.data(), requests.size()};
}

/// The first failure on each of: the target, the device that the target is to replace, the rest.
struct Failures {
  std::optional<Error> target, source, member;
};

Failures failures_of(const Map& map, std::span<const Segment> segments,
                     std::span<const IoRequest> requests) {
  Failures failures;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].result) continue;
    const Segment& segment = segments[i];
    const bool of_source = map.duplication() && segment.devid == map.duplication()->source;
    auto& first = segment.to_target ? failures.target
                  : of_source       ? failures.source
                                    : failures.member;
    if (!first) {
      first = located(requests[i].result.error(), segment.devid, segment.offset.value);
    }
  }
  return failures;
}

}  // namespace

/// The target became the member after writes to it had failed and before anybody knew of them:
/// they are made once more. Only what fails then is an error of a member.
Result<void> Volume::Impl::repeat_on_target(std::span<const Segment> segments,
                                            std::span<IoRequest> requests) {
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].result || !segments[i].to_target) continue;
    engine.run({&requests[i], 1});
    if (!requests[i].result) {
      return located(requests[i].result.error(), segments[i].devid, segments[i].offset.value);
    }
  }
  return ok();
}

/// Judges what failed of a plan that was carried out: on the target it goes to the hook, on a member
/// it is returned; which of the two is the member may have to be waited for.
Result<void> Volume::Impl::judge_writes(const Map& map, Plan& plan) {
  const std::span<const Segment> segments(plan.segments.data(), plan.segments.size());
  const std::span<IoRequest> requests = span_of(plan.requests).first(segments.size());
  uint64_t to_target = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (segments[i].to_target && requests[i].result) to_target += segments[i].length;
  }
  duplicated_bytes += to_target;

  Failures failures = failures_of(map, segments, requests);
  if (failures.target || failures.source) {
    const Device* target = map.duplication()->target.get();
    if (window.target_is_member(target, failures.target.has_value())) {
      if (failures.target) {
        TRY(repeat_on_target(segments, requests));
      }
    } else {
      if (failures.target) {
        report_target_fault(IoOp::write, *failures.target);
        window.end_report();
      }
      if (failures.source) return *failures.source;
    }
  }
  if (failures.member) return *failures.member;
  return ok();
}

Result<void> Volume::Impl::run_writes(const Map& map, Plan& plan) {
  engine.run(span_of(plan.requests));
  return judge_writes(map, plan);
}

void Volume::Impl::Plan::add(const Segment& segment, ConstBytes bytes) {
  segments.push_back(segment);
  requests.push_back(IoRequest::make_write(segment.device, segment.offset.value,
                                           bytes.subspan(segment.buffer_offset, segment.length)));
}

Result<void> Volume::Impl::Plan::add(const Map& map, const LogicalWrite& write) {
  TRY(auto places, map.for_write({write.at, write.bytes.size()}));
  for (const Segment& segment : places) add(segment, write.bytes);
  return ok();
}

Result<void> Volume::Impl::write(const MapGuard& guard, std::span<const LogicalWrite> writes) {
  if (read_only) return Error(Errc::read_only);
  Plan plan;
  for (const LogicalWrite& write : writes) {
    delayed.displace({write.at, write.bytes.size()});
    TRY(plan.add(guard.map(), write));
  }
  return run_writes(guard.map(), plan);
}

// ---- Delayed writes

Result<void> Volume::Impl::write_later(const MapGuard& guard, std::span<const LogicalWrite> writes,
                                       uint64_t owner) {
  if (read_only) return Error(Errc::read_only);
  uint64_t bytes = 0;
  for (const LogicalWrite& write : writes) bytes += write.bytes.size();
  if (bytes > WriteBuffer::kMaxWriteBytes) return this->write(guard, writes);
  for (const LogicalWrite& write : writes) {
    delayed.displace({write.at, write.bytes.size()});
    while (!delayed.add(write.at, write.bytes, owner)) {
      if (const auto batch = delayed.take()) write_batch(*batch);
    }
  }
  return ok();
}

void Volume::Impl::write_delayed() {
  if (const auto batch = delayed.take()) write_batch(*batch);
  delayed.wait_for_taken();
}

void Volume::Impl::write_batch(const WriteBuffer::Batch& batch) {
  const MapGuard guard = mapper.acquire();
  Plan plan = plan_batch(guard.map(), batch);
  end_batch(guard, batch, run_writes(guard.map(), plan));
}

/// Neighbours go in one request. Where there is no chunk any more nothing is to be kept.
Volume::Impl::Plan Volume::Impl::plan_batch(const Map& map, const WriteBuffer::Batch& batch) const {
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

void Volume::Impl::end_batch(const MapGuard& guard, const WriteBuffer::Batch& batch,
                             const Result<void>& written) {
  if (!written) find_lost(guard, batch);
  delayed.done(batch);
}

/// Something has failed: which? Each is tried once more by itself, and its owner remembered.
void Volume::Impl::find_lost(const MapGuard& guard, const WriteBuffer::Batch& batch) {
  for (const WriteBuffer::Write& write : batch.writes) {
    if (guard.map().chunk_of({write.at, write.bytes.size()}) == nullptr) continue;
    Plan plan;
    auto again = plan.add(guard.map(), {write.at, write.bytes});
    if (again) again = run_writes(guard.map(), plan);
    if (again) continue;
    log_error("inode {}: {} bytes are lost: {}", write.owner, write.bytes.size(),
              again.error().message());
    content_lost = true;
    std::lock_guard lock(mutex);
    write_failures.emplace(write.owner, again.error());
  }
}

std::optional<Error> Volume::Impl::take_write_failure(std::optional<uint64_t> owner) {
  std::lock_guard lock(mutex);
  const auto found = owner ? write_failures.find(*owner) : write_failures.begin();
  if (found == write_failures.end()) return std::nullopt;
  const Error error = found->second;
  if (owner) {
    write_failures.erase(found);
  } else {
    write_failures.clear();
  }
  return error;
}

// ---- Reading

void Volume::Impl::read_batch(const MapGuard& guard, std::span<LogicalRead> reads, unsigned copy) {
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
    if (delayed.empty()) {
      add(read, read.at, read.into);
    } else {
      for (const auto& part : delayed.read(read.at, read.into)) add(read, part.at, part.into);
    }
  }
  engine.run(span_of(requests));
  for (size_t i = 0; i < requests.size(); ++i) {
    if (requests[i].result) continue;
    const Segment& segment = origins[i].segment;
    origins[i].read->result =
        located(requests[i].result.error(), segment.devid, segment.offset.value);
  }
}

Result<void> Volume::Impl::read(const MapGuard& guard, LogicalOffset at, Bytes into,
                                unsigned copy) {
  LogicalRead one{at, into};
  read_batch(guard, {&one, 1}, copy);
  return one.result;
}

Result<void> Volume::Impl::repair(const MapGuard& guard, LogicalOffset at, ConstBytes bytes,
                                  unsigned copy) {
  if (read_only) return Error(Errc::read_only);
  const Map& map = guard.map();
  TRY(auto places, map.for_read({at, bytes.size()}, copy));
  Plan plan;
  for (const Segment& place : places) {
    plan.add(place, bytes);
    // R1 holds for this write, too.
    const auto& duplication = map.duplication();
    if (!duplication || place.devid != duplication->source) continue;
    if (!duplication->rule->duplicates({place.offset, place.length})) continue;
    Segment twin = place;
    twin.device = duplication->target.get();
    twin.to_target = true;
    plan.add(twin, bytes);
  }
  return run_writes(map, plan);
}

}  // namespace moltfs::alloc
