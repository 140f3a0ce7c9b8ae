// SPDX-License-Identifier: MIT
// Reads and writes by logical address, and what their failures mean.
#include "alloc/base/assert.h"
#include "alloc/volume_impl.h"

namespace moltfs::alloc {

namespace {

using Requests = boost::container::small_vector<IoRequest, 8>;

void add_write(Requests& requests, const Segment& segment, ConstBytes bytes) {
  requests.push_back(IoRequest::make_write(segment.device, segment.offset.value,
                                           bytes.subspan(segment.buffer_offset, segment.length)));
}

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

/// Runs `requests`, which write `segments`, and judges what failed: on the target it goes to the
/// hook, on a member it is returned; which of the two is the member may have to be waited for.
Result<void> Volume::Impl::run_writes(const Map& map, std::span<const Segment> segments,
                                      std::span<IoRequest> requests) {
  engine.run(requests);
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

Result<void> Volume::Impl::write(const MapGuard& guard, std::span<const LogicalWrite> writes) {
  if (read_only) return Error(Errc::read_only);
  const Map& map = guard.map();
  boost::container::small_vector<Segment, 8> segments;
  Requests requests;
  for (const LogicalWrite& write : writes) {
    TRY(auto places, map.for_write({write.at, write.bytes.size()}));
    for (const Segment& segment : places) {
      segments.push_back(segment);
      add_write(requests, segment, write.bytes);
    }
  }
  return run_writes(map, {segments.data(), segments.size()}, span_of(requests));
}

void Volume::Impl::read_batch(const MapGuard& guard, std::span<LogicalRead> reads, unsigned copy) {
  struct Origin {
    LogicalRead* read;
    Segment segment;
  };
  boost::container::small_vector<Origin, 8> origins;
  Requests requests;
  for (LogicalRead& read : reads) {
    auto places = guard.map().for_read({read.at, read.into.size()}, copy);
    read.result = ok();
    if (!places) {
      read.result = places.error();
      continue;
    }
    for (const Segment& segment : places.value()) {
      origins.push_back({&read, segment});
      requests.push_back(
          IoRequest::make_read(segment.device, segment.offset.value,
                               read.into.subspan(segment.buffer_offset, segment.length)));
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
  Segments segments;
  Requests requests;
  for (const Segment& place : places) {
    segments.push_back(place);
    add_write(requests, place, bytes);
    // R1 holds for this write, too.
    const auto& duplication = map.duplication();
    if (!duplication || place.devid != duplication->source) continue;
    if (!duplication->rule->duplicates({place.offset, place.length})) continue;
    Segment twin = place;
    twin.device = duplication->target.get();
    twin.to_target = true;
    segments.push_back(twin);
    add_write(requests, twin, bytes);
  }
  return run_writes(map, {segments.data(), segments.size()}, span_of(requests));
}

}  // namespace moltfs::alloc
