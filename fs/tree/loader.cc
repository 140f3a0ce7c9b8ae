// SPDX-License-Identifier: MIT
// Reading, checking and repairing nodes.
#include "fs/tree/loader.h"

#include <fmt/format.h>

#include <vector>

#include "alloc/base/log.h"

namespace moltfs::fs {

void NodeLoader::load(std::span<NodeRequest> requests) const {
  struct Read {
    AlignedBuffer bytes{kNodeSize};
    size_t first_io = 0, io_count = 0;
  };
  std::vector<Read> reads(requests.size());
  std::vector<alloc::IoRequest> ios;
  {
    const alloc::MapGuard guard = volume_.acquire_map();
    for (size_t i = 0; i < requests.size(); ++i) {
      reads[i].first_io = ios.size();
      auto segments = guard.map().for_read({requests[i].expected.pointer.address, kNodeSize},
                                           alloc::Map::kAnyCopy);
      if (!segments) continue;
      for (const alloc::Segment& s : segments.value()) {
        ios.push_back(alloc::IoRequest::make_read(
            s.device, s.offset.value, reads[i].bytes.span().subspan(s.buffer_offset, s.length)));
      }
      reads[i].io_count = segments.value().size();
    }
    if (!ios.empty()) {
      const alloc::ReadsUnderWay under_way(ios);
      volume_.engine().run(ios);
    }
  }
  for (size_t i = 0; i < requests.size(); ++i) {
    bool read = reads[i].io_count > 0;
    for (size_t k = 0; k < reads[i].io_count; ++k) {
      read = read && ios[reads[i].first_io + k].result.has_value();
    }
    if (read && validate_node(reads[i].bytes.span(), requests[i].expected, &uuid_)) {
      requests[i].node = std::make_shared<Node>(std::move(reads[i].bytes));
    } else {
      try_copies(requests[i]);
    }
  }
}

/// The first copy was bad. The bytes of an allocated node do not change, so the device is at fault.
void NodeLoader::try_copies(NodeRequest& request) const {
  const NodeExpectation& expected = request.expected;
  const LogicalOffset address = expected.pointer.address;
  std::vector<std::pair<unsigned, Error>> bad;
  bool any_read = false;
  {
    const alloc::MapGuard guard = volume_.acquire_map();
    const unsigned copies = volume_.copies_at(guard, address);
    for (unsigned copy = 0; copy < copies && !request.node; ++copy) {
      if (!guard.map().has_copy(address, copy)) continue;
      AlignedBuffer bytes(kNodeSize);
      auto result = volume_.read(guard, address, bytes.span(), copy);
      any_read = any_read || result;
      if (result) result = validate_node(bytes.span(), expected, &uuid_);
      if (result) {
        request.node = std::make_shared<Node>(std::move(bytes));
      } else {
        bad.emplace_back(copy, result.error());
      }
    }
  }
  if (!is_allocated(expected.pointer)) {
    request.node = nullptr;
    return;
  }
  for (const auto& [copy, error] : bad) {
    report_bad_copy(expected, copy, error);
    if (request.node) repair(*request.node, copy);
  }
  if (request.node) return;
  const std::string reason =
      bad.empty() ? "no chunk holds this address" : bad.front().second.message();
  request.error =
      Error(any_read || bad.empty() ? Errc::bad_node : Errc::io_error,
            fmt::format("node {} of the {} (level {}, born in generation {}) cannot be used: {}",
                        address.value, name_of(expected.tree), expected.level,
                        expected.pointer.birth.value, reason));
}

bool NodeLoader::is_allocated(const NodePointer& pointer) const {
  for (const auto& node : volume_.space().nodes_in({pointer.address, kNodeSize})) {
    if (node.address == pointer.address && node.birth == pointer.birth) return true;
  }
  return false;
}

void NodeLoader::report_bad_copy(const NodeExpectation& expected, unsigned copy,
                                 const Error& error) const {
  const alloc::MapGuard guard = volume_.acquire_map();
  auto segments = guard.map().for_read({expected.pointer.address, kNodeSize}, copy);
  if (!segments || segments.value().empty()) return;
  const alloc::Segment& place = segments.value().front();
  const bool corrupt = error == Errc::checksum_mismatch || error == Errc::bad_node;
  if (corrupt) ++place.device->counters().checksum_errors;
  log_warning("{} at {}: copy {} of node {} of the {} is bad: {}", place.device->path(),
              place.offset.value, copy, expected.pointer.address.value, name_of(expected.tree),
              error.message());
}

void NodeLoader::repair(const Node& node, unsigned copy) const {
  if (volume_.read_only()) return;
  const alloc::Freeze freeze = volume_.space().freeze({node.address(), kNodeSize});
  // While frozen the place cannot be reused, but it may have been reused before.
  if (!freeze || !is_allocated({node.address(), node.birth(), node.checksum()})) return;
  const alloc::MapGuard guard = volume_.acquire_map();
  auto repaired = volume_.repair(guard, node.address(), node.bytes(), copy);
  if (repaired) {
    log_info("copy {} of node {} is repaired", copy, node.address().value);
  } else {
    log_warning("copy {} of node {} cannot be repaired: {}", copy, node.address().value,
                repaired.error().message());
  }
}

}  // namespace moltfs::fs
