// SPDX-License-Identifier: MIT
// Reading extent records, nodes and paths for the replace engine.
#include "fs/mount/replace_host.h"

#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/checksum.h"
#include "fs/content/extents.h"

namespace moltfs::fs {
namespace {

constexpr size_t kRecordsPerSection = 256;

/// The part of `record` within `range`. A birth after `running` is not true: nothing says then that
/// the target has the extent.
replace::AllocatedExtent clipped(const ExtentRecord& record, LogicalRange range,
                                 Generation running) {
  const LogicalOffset start = std::max(record.start, range.start);
  const LogicalOffset end = std::min(record.end(), range.end());
  replace::AllocatedExtent extent;
  extent.start = start;
  extent.length = end - start;
  extent.birth = record.birth <= running ? record.birth : Generation();
  extent.inode = record.inode.value;
  extent.file_offset = record.file_offset + (start - record.start);
  const uint64_t skipped = (start - record.start) / kBlockSize;
  extent.checksums.resize(extent.length / kBlockSize);
  for (size_t i = 0; i < extent.checksums.size(); ++i) {
    extent.checksums[i] = record.checksum(skipped + i);
  }
  return extent;
}

}  // namespace

Result<std::vector<replace::AllocatedExtent>> ReplaceHost::allocated_in(LogicalRange range) {
  const auto map = transactions_.volume().mapper().current();
  const alloc::Chunk* chunk = map->chunk_of(range);
  if (chunk == nullptr) return std::vector<replace::AllocatedExtent>();
  if (chunk->kind == alloc::ChunkKind::metadata) return nodes_in(range);
  return data_in(range);
}

Result<std::vector<replace::AllocatedExtent>> ReplaceHost::data_in(LogicalRange range) {
  std::vector<replace::AllocatedExtent> found;
  struct Part {
    std::vector<replace::AllocatedExtent> extents;
    LogicalOffset end;  ///< up to here the range has been read
  };
  for (LogicalOffset from = range.start; from < range.end();) {
    const LogicalRange rest{from, range.end() - from};
    TRY(auto part, transactions_.read([&](Access& access) -> Result<Part> {
      Part part;
      part.end = rest.end();
      size_t count = 0;
      TRY(visit_records(access, transactions_.extent_tree(), rest, [&](const ExtentRecord& record) {
        if (!record.unwritten) part.extents.push_back(clipped(record, rest, access.running()));
        if (++count < kRecordsPerSection) return true;
        part.end = std::min(record.end(), rest.end());
        return false;
      }));
      return part;
    }));
    std::move(part.extents.begin(), part.extents.end(), std::back_inserter(found));
    from = part.end;
  }
  return found;
}

std::vector<replace::AllocatedExtent> ReplaceHost::nodes_in(LogicalRange range) {
  std::vector<replace::AllocatedExtent> found;
  for (const alloc::AllocatedNode& node : transactions_.volume().space().nodes_in(range)) {
    replace::AllocatedExtent extent;
    extent.start = node.address;
    extent.length = kNodeSize;
    extent.birth = node.birth;
    extent.is_node = true;
    found.push_back(std::move(extent));
  }
  return found;
}

bool ReplaceHost::matches(const replace::AllocatedExtent& extent, ConstBytes bytes,
                          uint64_t& first_bad) {
  first_bad = 0;
  if (bytes.size() != extent.length) return false;
  if (extent.is_node) return Transactions::node_is_sound(bytes, extent.start, extent.birth);
  for (size_t i = 0; i < extent.checksums.size(); ++i) {
    if (checksum_of(bytes.subspan(i * kBlockSize, kBlockSize)) == extent.checksums[i]) continue;
    first_bad = i * kBlockSize;
    return false;
  }
  return true;
}

std::string ReplaceHost::name_of(const replace::AllocatedExtent& extent) {
  if (extent.is_node) return fmt::format("tree node {}", extent.start.value);
  return fmt::format("{} at {}", filesystem_.path_of(InodeNumber{extent.inode}),
                     extent.file_offset);
}

}  // namespace moltfs::fs
