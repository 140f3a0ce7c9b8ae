// SPDX-License-Identifier: MIT
// Verifies the data that the last batch of the fsync log names; replays the log for check and dump.
#include "fs/content/log_data.h"

#include "alloc/base/checksum.h"
#include "fs/content/extents.h"

namespace moltfs::fs {
namespace {

bool blocks_match(ConstBytes data, const ExtentRecord& record) {
  for (uint64_t block = 0; block < record.length / kBlockSize; ++block) {
    if (checksum_of(data.subspan(block * kBlockSize, kBlockSize)) != record.checksum(block)) {
      return false;
    }
  }
  return true;
}

/// One good copy is enough. Data born in generation `flushed` or before was flushed: if it is
/// corrupt now, the device is at fault. That is no reason to drop an fsync, which may name the rest
/// of an extent that it has cut.
bool is_there(alloc::Volume& volume, const alloc::MapGuard& guard, const ExtentRecord& record,
              Generation flushed) {
  if (guard.map().chunk_of({record.start, record.length}) == nullptr) return false;
  if (record.unwritten || record.birth <= flushed) return true;
  AlignedBuffer buffer(record.length);
  for (unsigned copy = 0; copy < volume.copies_at(guard, record.start); ++copy) {
    if (volume.read(guard, record.start, buffer.span(), copy) &&
        blocks_match(buffer.span(), record)) {
      return true;
    }
  }
  return false;
}

}  // namespace

bool log_data_matches(alloc::Volume& volume, const LogContent& content) {
  const alloc::MapGuard guard = volume.acquire_map();
  const Generation flushed = volume.superblock().generation;
  for (const LogContent::Item& item : content.items) {
    if (item.id.tree != TreeId::extent || !item.value) continue;
    if (item.id.key.type != static_cast<uint8_t>(ItemType::extent_record)) continue;
    auto record = decode_record({item.id.key, *item.value});
    if (!record || !is_there(volume, guard, record.value(), flushed)) return false;
  }
  return true;
}

Result<std::optional<Transactions::Replayed>> replay_for_reading(alloc::Volume& volume) {
  std::optional<Transactions::Replayed> nothing;
  if (volume.found_log().batches.empty()) return nothing;
  Transactions::Options options;
  options.read_only = true;
  options.data_matches = [&](const LogContent& content) {
    return log_data_matches(volume, content);
  };
  TRY(auto transactions, Transactions::open(volume, options));
  return std::optional(transactions->replayed());
}

}  // namespace moltfs::fs
