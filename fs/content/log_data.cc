// SPDX-License-Identifier: MIT
// Verifies and completes the data that the last batch of the fsync log names; replays the log for
// check and dump.
#include "fs/content/log_data.h"

#include "alloc/base/checksum.h"
#include "alloc/base/log.h"
#include "fs/content/extents.h"

namespace moltfs::fs {
namespace {

/// The copies of the data of one record, as they are on the devices.
class RecordCopies {
 public:
  RecordCopies(alloc::Volume& volume, const alloc::MapGuard& guard, const ExtentRecord& record)
      : volume_(volume), guard_(guard), record_(record) {
    for (unsigned copy = 0; copy < volume.copies_at(guard, record.start); ++copy) read(copy);
  }

  /// Each block has a good copy.
  bool all_there() const {
    for (size_t block = 0; block < block_count(); ++block) {
      if (!good_copy(block)) return false;
    }
    return true;
  }

  /// Overwrites bad copies with good ones; returns how many blocks. A copy that cannot be written
  /// stays bad.
  size_t repair() const {
    size_t repaired = 0;
    for (size_t block = 0; block < block_count(); ++block) {
      const auto source = good_copy(block);
      if (!source) continue;
      const ConstBytes bytes = buffers_[*source].span().subspan(block * kBlockSize, kBlockSize);
      for (unsigned copy = 0; copy < buffers_.size(); ++copy) {
        const LogicalOffset at = at_block(block);
        if (is_good_[copy][block] || !guard_.map().has_copy(at, copy)) continue;
        const auto written = volume_.repair(guard_, at, bytes, copy);
        if (written) {
          ++repaired;
        } else {
          log_warning("logical address {}: copy {} could not be written: {}", at.value, copy,
                      written.error().message());
        }
      }
    }
    return repaired;
  }

 private:
  size_t block_count() const { return record_.length / kBlockSize; }
  LogicalOffset at_block(size_t block) const { return record_.start + block * kBlockSize; }

  void read(unsigned copy) {
    AlignedBuffer buffer(record_.length);
    std::vector<bool> good;
    const bool whole = volume_.read(guard_, record_.start, buffer.span(), copy).has_value();
    for (size_t block = 0; block < block_count(); ++block) {
      const Bytes bytes = buffer.span().subspan(block * kBlockSize, kBlockSize);
      const bool is_read = whole || volume_.read(guard_, at_block(block), bytes, copy).has_value();
      good.push_back(is_read && checksum_of(bytes) == record_.checksum(block));
    }
    buffers_.push_back(std::move(buffer));
    is_good_.push_back(std::move(good));
  }

  std::optional<unsigned> good_copy(size_t block) const {
    for (unsigned copy = 0; copy < buffers_.size(); ++copy) {
      if (is_good_[copy][block]) return copy;
    }
    return std::nullopt;
  }

  alloc::Volume& volume_;
  const alloc::MapGuard& guard_;
  const ExtentRecord& record_;
  std::vector<AlignedBuffer> buffers_;      // for each copy
  std::vector<std::vector<bool>> is_good_;  // for each copy, for each block
};

/// Calls visit(record) for each record in `content` whose data was perhaps not flushed, until it
/// returns false. Data born in the superblock's generation or before was flushed: if it is corrupt
/// now, the device is at fault. That is no reason to drop an fsync, which may name the rest of an
/// extent that it has cut. False: visit has returned false, or a record is not valid.
template <class Visit>
bool visit_unflushed(const alloc::Volume& volume, const alloc::MapGuard& guard,
                     const LogContent& content, Visit visit) {
  const Generation flushed = volume.superblock().generation;
  for (const LogContent::Item& item : content.items) {
    if (item.id.tree != TreeId::extent || !item.value) continue;
    if (item.id.key.type != static_cast<uint8_t>(ItemType::extent_record)) continue;
    const auto record = decode_record({item.id.key, *item.value});
    if (!record) return false;
    const LogicalRange range{record.value().start, record.value().length};
    if (guard.map().chunk_of(range) == nullptr) return false;
    if (record.value().unwritten || record.value().birth <= flushed) continue;
    if (!visit(record.value())) return false;
  }
  return true;
}

}  // namespace

bool log_data_matches(alloc::Volume& volume, const LogContent& content) {
  const alloc::MapGuard guard = volume.acquire_map();
  return visit_unflushed(volume, guard, content, [&](const ExtentRecord& record) {
    return RecordCopies(volume, guard, record).all_there();
  });
}

void complete_log_data(alloc::Volume& volume, const LogContent& content) {
  const alloc::MapGuard guard = volume.acquire_map();
  size_t repaired = 0;
  (void)visit_unflushed(volume, guard, content, [&](const ExtentRecord& record) {
    if (volume.copies_at(guard, record.start) < 2) return true;  // it was verified by the replay
    repaired += RecordCopies(volume, guard, record).repair();
    return true;
  });
  if (repaired > 0) {
    log_info("{} blocks that a crash had left without all their copies were copied", repaired);
  }
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
