// SPDX-License-Identifier: MIT
// Decoding of extent items, and ExtentChange: the old extents, the new extents, and the difference
// between the two as changes of items.
#include "fs/content/extents.h"

#include <fmt/format.h>

#include <set>

#include "alloc/base/assert.h"
#include "alloc/base/codec.h"
#include "alloc/base/load.h"

namespace moltfs::fs {
namespace {

/// The end of the last block that a file can have.
constexpr uint64_t kEndOfFiles = kMaxFileBytes + 1;

bool whole_blocks(uint64_t n) {
  return n % kBlockSize == 0;
}

bool good_length(uint64_t length) {
  return length != 0 && whole_blocks(length) && length <= kMaxExtentBytes;
}

bool good_file_offset(uint64_t offset) {
  return whole_blocks(offset) && offset < kMaxFileBytes;
}

bool good_logical(uint64_t logical) {
  return whole_blocks(logical) && logical < alloc::kMaxLogical;
}

Error bad_extent(const Key& key, const char* what) {
  return Error(Errc::bad_item,
               fmt::format("inode {}: file extent at {}: {}", key.object, key.offset, what));
}

Error bad_record(LogicalOffset at, const char* what) {
  return Error(Errc::bad_item, fmt::format("extent record at {}: {}", at.value, what));
}

/// True if the two are adjacent and could be one extent, unless they are in different chunks.
bool touch(const Extent& a, const Extent& b) {
  return a.file_end() == b.file_offset && a.logical + a.length == b.logical && a.birth == b.birth &&
         a.unwritten == b.unwritten && a.length + b.length <= kMaxExtentBytes;
}

FileExtentOnDisk encode_file_extent(const Extent& extent) {
  FileExtentOnDisk disk;
  disk.logical = extent.logical.value;
  disk.length = static_cast<uint32_t>(extent.length);
  disk.flags = extent.unwritten ? kExtentUnwritten : 0;
  return disk;
}

std::vector<std::byte> encode_record(InodeNumber ino, const Extent& extent) {
  ExtentRecordOnDisk disk;
  disk.birth = extent.birth.value;
  disk.inode = ino.value;
  disk.file_offset = extent.file_offset;
  disk.length = static_cast<uint32_t>(extent.length);
  disk.flags = extent.unwritten ? kExtentUnwritten : 0;
  ByteWriter writer;
  writer.object(disk);
  for (uint64_t checksum : extent.checksums) writer.u64(checksum);
  return writer.take();
}

}  // namespace

Extent Extent::slice(uint64_t first, uint64_t end) const {
  const uint64_t from = std::max(first, file_offset);
  const uint64_t to = std::min(end, file_end());
  ASSERT(from < to && whole_blocks(from - file_offset) && whole_blocks(to - from));
  Extent part;
  part.file_offset = from;
  part.logical = logical + (from - file_offset);
  part.length = to - from;
  part.unwritten = unwritten;
  part.birth = birth;
  if (!checksums.empty()) {
    const auto begin =
        checksums.begin() + static_cast<ptrdiff_t>((from - file_offset) / kBlockSize);
    part.checksums.assign(begin, begin + static_cast<ptrdiff_t>(part.length / kBlockSize));
  }
  return part;
}

uint64_t ExtentRecord::checksum(uint64_t block) const {
  return *load<le::little_uint64_t>(checksums, block * sizeof(uint64_t));
}

Result<Extent> decode_file_extent(const Item& item) {
  const auto loaded = load_exactly<FileExtentOnDisk>(item.value);
  if (!loaded) return bad_extent(item.key, "wrong item size");
  const FileExtentOnDisk& disk = *loaded;
  if (!good_file_offset(item.key.offset)) return bad_extent(item.key, "impossible offset");
  if (!good_length(disk.length) || disk.length > kEndOfFiles - item.key.offset) {
    return bad_extent(item.key, "impossible length");
  }
  if (!good_logical(disk.logical)) return bad_extent(item.key, "impossible address");
  if ((disk.flags & ~kExtentUnwritten) != 0) return bad_extent(item.key, "unknown flags");
  Extent extent;
  extent.file_offset = item.key.offset;
  extent.logical = LogicalOffset{disk.logical};
  extent.length = disk.length;
  extent.unwritten = (disk.flags & kExtentUnwritten) != 0;
  return extent;
}

Result<ExtentRecord> decode_record(const Item& item) {
  ExtentRecord record;
  record.start = LogicalOffset{item.key.object};
  const auto loaded = load<ExtentRecordOnDisk>(item.value);
  if (!loaded) return bad_record(record.start, "item too short");
  const ExtentRecordOnDisk& disk = *loaded;
  if (item.key.offset != 0) return bad_record(record.start, "impossible key");
  if (!good_logical(record.start.value)) return bad_record(record.start, "impossible address");
  if (!good_length(disk.length)) return bad_record(record.start, "impossible length");
  if (!good_file_offset(disk.file_offset) || disk.length > kEndOfFiles - disk.file_offset) {
    return bad_record(record.start, "impossible offset");
  }
  if ((disk.flags & ~kExtentUnwritten) != 0) return bad_record(record.start, "unknown flags");
  if (disk.birth == 0 || Generation{disk.birth} > alloc::kMaxGeneration) {
    return bad_record(record.start, "impossible birth generation");
  }
  if (!is_inode_number(InodeNumber{disk.inode})) {
    return bad_record(record.start, "impossible owner");
  }
  record.length = disk.length;
  record.birth = Generation{disk.birth};
  record.inode = InodeNumber{disk.inode};
  record.file_offset = disk.file_offset;
  record.unwritten = (disk.flags & kExtentUnwritten) != 0;
  record.checksums = item.value.subspan(sizeof(disk));
  const uint64_t blocks = record.unwritten ? 0 : record.length / kBlockSize;
  if (record.checksums.size() != blocks * sizeof(uint64_t)) {
    return bad_record(record.start, "wrong number of checksums");
  }
  return record;
}

Result<std::vector<Extent>> extents_in(Access& access, const Tree& fs_tree, InodeNumber ino,
                                       uint64_t first, uint64_t end, size_t limit) {
  std::vector<Extent> found;
  if (first >= end || limit == 0) return found;
  Key from = extent_key(ino, first);
  TRY(auto before, fs_tree.at_or_before(access, from));
  if (before && before->key.object == from.object && before->key.type == from.type) {
    TRY(auto extent, decode_file_extent(*before));
    if (extent.overlaps(first, end)) from = extent_key(ino, extent.file_offset);
  }
  const Key last = extent_key(ino, end - 1);
  TRY(fs_tree.scan(access, from, last, [&](const Item& item) -> Result<bool> {
    TRY(auto extent, decode_file_extent(item));
    if (!found.empty() && found.back().file_end() > extent.file_offset) {
      return bad_extent(item.key, "overlaps the previous one");
    }
    found.push_back(std::move(extent));
    return found.size() < limit;
  }));
  return found;
}

Result<void> visit_records(Access& access, const Tree& extent_tree, LogicalRange range,
                           const std::function<bool(const ExtentRecord&)>& visit) {
  if (range.length == 0) return ok();
  Key from = record_key(range.start);
  TRY(auto before, extent_tree.at_or_before(access, {from.object, from.type, UINT64_MAX}));
  if (before && before->key.type == from.type) {
    TRY(auto record, decode_record(*before));
    if (record.end() > range.start) from = record_key(record.start);
  }
  LogicalOffset reached;
  const Key last = record_key(range.end() - 1);
  return extent_tree.scan(access, from, last, [&](const Item& item) -> Result<bool> {
    if (item.key.type != from.type) return true;
    TRY(const auto record, decode_record(item));
    if (record.start < reached) return bad_record(record.start, "overlaps the previous one");
    reached = record.end();
    return visit(record);
  });
}

Result<Extent> with_record(Access& access, const Tree& extent_tree, InodeNumber ino,
                           const Extent& extent, uint64_t first, uint64_t end) {
  const Key key = record_key(extent.logical);
  TRY(auto value, extent_tree.find(access, key));
  if (!value) return bad_record(extent.logical, "missing");
  TRY(auto record, decode_record({key, *value}));
  if (record.length != extent.length || record.unwritten != extent.unwritten ||
      record.inode != ino || record.file_offset != extent.file_offset) {
    return bad_record(extent.logical, "does not agree with its file extent");
  }
  if (record.birth > access.running()) {
    return bad_record(extent.logical, "born in a generation that has not begun");
  }
  Extent part = extent.slice(first, end);
  part.birth = record.birth;
  if (record.unwritten) return part;
  const uint64_t skipped = (part.file_offset - extent.file_offset) / kBlockSize;
  part.checksums.resize(part.length / kBlockSize);
  for (size_t i = 0; i < part.checksums.size(); ++i) {
    part.checksums[i] = record.checksum(skipped + i);
  }
  return part;
}

Result<uint64_t> bounded_end(Access& access, const Tree& fs_tree, InodeNumber ino, uint64_t first,
                             uint64_t end, size_t limit) {
  TRY(auto extents, extents_in(access, fs_tree, ino, first, end, limit + 1));
  return extents.size() <= limit ? end : extents[limit].file_offset;
}

unsigned ExtentChange::item_changes(size_t old_count, size_t new_count) {
  // In each tree: the old keys are erased, except that of an extent whose head remains. The new
  // ones are put, and what remains of the first and of the last old one.
  return static_cast<unsigned>(2 * (old_count + new_count + 1));
}

Result<void> ExtentChange::load(Txn& txn, uint64_t first, uint64_t end) {
  TRY(auto extents, extents_in(txn, context_.fs_tree(), ino_, first, end, SIZE_MAX));
  for (const Extent& extent : extents) {
    TRY(auto whole, with_record(txn, context_.extent_tree(), ino_, extent, extent.file_offset,
                                extent.file_end()));
    before_.emplace(whole.file_offset, std::move(whole));
  }
  after_ = before_;
  return ok();
}

void ExtentChange::remove(uint64_t first, uint64_t end, bool frees) {
  auto at = after_.lower_bound(first);
  if (at != after_.begin() && std::prev(at)->second.file_end() > first) --at;
  while (at != after_.end() && at->second.file_offset < end) {
    const Extent extent = std::move(at->second);
    at = after_.erase(at);
    if (frees) freed_.push_back({extent.slice(first, end).range(), extent.birth});
    if (extent.file_offset < first) {
      after_.emplace(extent.file_offset, extent.slice(extent.file_offset, first));
    }
    if (extent.file_end() > end) {
      at = after_.emplace(end, extent.slice(end, extent.file_end())).first;
    }
  }
}

void ExtentChange::cut(uint64_t first, uint64_t end) {
  if (first < end) remove(first, end, true);
}

void ExtentChange::put(const Extent& extent) {
  remove(extent.file_offset, extent.file_end(), true);
  after_.emplace(extent.file_offset, extent);
  recorded_.push_back(extent.range());
}

Result<void> ExtentChange::write_in_place(const Extent& extent) {
  auto at = after_.upper_bound(extent.file_offset);
  if (at != after_.begin()) --at;
  uint64_t reached = extent.file_offset;
  for (; at != after_.end() && reached < extent.file_end(); ++at) {
    const Extent& old = at->second;
    if (!old.overlaps(reached, reached + 1) || !old.unwritten ||
        old.logical + (reached - old.file_offset) !=
            extent.logical + (reached - extent.file_offset)) {
      break;
    }
    reached = old.file_end();
  }
  if (reached < extent.file_end()) {
    return bad_record(extent.logical, "a preallocated extent has moved");
  }
  remove(extent.file_offset, extent.file_end(), false);
  after_.emplace(extent.file_offset, extent);
  return ok();
}

/// Loads the extent before the first new one, if the two can be joined.
Result<void> ExtentChange::load_previous(Txn& txn) {
  if (after_.empty()) return ok();
  const Extent& first = after_.begin()->second;
  if (first.file_offset == 0 || first.length == kMaxExtentBytes) return ok();
  TRY(auto found,
      extents_in(txn, context_.fs_tree(), ino_, first.file_offset - 1, first.file_offset, 1));
  if (found.empty() || before_.contains(found[0].file_offset)) return ok();
  Extent& previous = found[0];
  previous.birth = first.birth;  // unknown yet: assume that they can be joined
  if (!touch(previous, first)) return ok();
  TRY(auto whole, with_record(txn, context_.extent_tree(), ino_, previous, previous.file_offset,
                              previous.file_end()));
  if (!joins(whole, first)) return ok();
  after_.emplace(whole.file_offset, whole);
  before_.emplace(whole.file_offset, std::move(whole));
  return ok();
}

/// Chunks can be adjacent in the address space, but no extent lies in two chunks.
bool ExtentChange::joins(const Extent& a, const Extent& b) const {
  if (!touch(a, b)) return false;
  const auto map = context_.transactions.volume().mapper().current();
  return map->chunk_of({a.logical, a.length + b.length}) != nullptr;
}

void ExtentChange::join_neighbours() {
  for (auto at = after_.begin(); at != after_.end();) {
    const auto next = std::next(at);
    if (next == after_.end() || !joins(at->second, next->second)) {
      at = next;
      continue;
    }
    Extent& grown = at->second;
    grown.length += next->second.length;
    grown.checksums.insert(grown.checksums.end(), next->second.checksums.begin(),
                           next->second.checksums.end());
    after_.erase(next);
  }
}

/// Fills the lists of items to erase and to put.
void ExtentChange::compare() {
  std::map<LogicalOffset, const Extent*> old_records;
  std::set<LogicalOffset> new_records;
  uint64_t old_bytes = 0, new_bytes = 0;
  for (const auto& [offset, extent] : before_) {
    old_records.emplace(extent.logical, &extent);
    old_bytes += extent.length;
    if (!after_.contains(offset)) erased_extents_.push_back(extent_key(ino_, offset));
  }
  for (const auto& [offset, extent] : after_) {
    new_records.insert(extent.logical);
    new_bytes += extent.length;
    const auto same_shape = [&extent = extent](const Extent& old) {
      return old.logical == extent.logical && old.length == extent.length &&
             old.unwritten == extent.unwritten;
    };
    const auto old = before_.find(offset);
    if (old == before_.end() || !same_shape(old->second)) put_extents_.push_back(&extent);
    const auto old_record = old_records.find(extent.logical);
    if (old_record == old_records.end() || !same_shape(*old_record->second) ||
        old_record->second->file_offset != extent.file_offset ||
        old_record->second->birth != extent.birth) {
      put_records_.push_back(&extent);
    }
  }
  for (const auto& [logical, extent] : old_records) {
    if (!new_records.contains(logical)) erased_records_.push_back(record_key(logical));
  }
  allocated_change_ = new_bytes - old_bytes;
}

Result<void> ExtentChange::prepare(Txn& txn) {
  TRY(load_previous(txn));
  join_neighbours();
  compare();
  const Tree& fs_tree = context_.fs_tree();
  const Tree& extent_tree = context_.extent_tree();
  for (const Key& key : erased_extents_) {
    TRY(fs_tree.prepare(txn, key, Tree::Intent::erase));
  }
  for (const Key& key : erased_records_) {
    TRY(extent_tree.prepare(txn, key, Tree::Intent::erase));
  }
  for (const Extent* extent : put_extents_) {
    TRY(fs_tree.prepare(txn, extent_key(ino_, extent->file_offset), Tree::Intent::put));
  }
  for (const Extent* extent : put_records_) {
    TRY(extent_tree.prepare(txn, record_key(extent->logical), Tree::Intent::put));
  }
  return ok();
}

void ExtentChange::apply(Txn& txn) {
  const Tree& fs_tree = context_.fs_tree();
  const Tree& extent_tree = context_.extent_tree();
  for (const Key& key : erased_extents_) fs_tree.erase(txn, key);
  for (const Key& key : erased_records_) extent_tree.erase(txn, key);
  for (const Extent* extent : put_extents_) {
    const FileExtentOnDisk disk = encode_file_extent(*extent);
    fs_tree.put(txn, extent_key(ino_, extent->file_offset), object_bytes(disk));
  }
  for (const Extent* extent : put_records_) {
    extent_tree.put(txn, record_key(extent->logical), encode_record(ino_, *extent));
  }
  alloc::Space& space = context_.transactions.volume().space();
  for (const LogicalRange& range : recorded_) space.record_data(range);
  for (const Freed& freed : freed_) space.free_data(freed.range, freed.birth, txn.running());
}

}  // namespace moltfs::fs
