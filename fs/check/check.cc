// SPDX-License-Identifier: MIT
// The steps of a check, superblocks, chunk tables, and the walks over the trees.
#include "fs/check/check.h"

#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/load.h"
#include "alloc/base/uuid.h"
#include "alloc/disk/chunk_table.h"
#include "fs/check/check_extents.h"
#include "fs/check/check_inodes.h"
#include "fs/check/check_items.h"
#include "fs/check/tree_reader.h"
#include "fs/content/log_data.h"
#include "replace/record.h"

namespace moltfs::fs {
namespace checking {
namespace {

class Check {
 public:
  /// `replayed`: the trees after the replay of the fsync log, if there is a log.
  Check(alloc::Volume& volume, const CheckOptions& options,
        Result<std::optional<Transactions::Replayed>> replayed)
      : volume_(volume),
        options_(options),
        super_(volume.superblock()),
        newest_(super_.generation),
        states_(findings_, lost_) {
    read_log(std::move(replayed));
  }

  CheckReport run();

 private:
  void read_log(Result<std::optional<Transactions::Replayed>> replayed);
  void check_superblocks(alloc::Device& device, DeviceId devid);
  void check_chunk_table(alloc::Device& device);
  void check_trees(const FsPayload& payload);
  void walk(TreeId tree, NodesSeen& seen, const std::function<void(const Item&)>& item);
  void check_node(const NodeReading& reading);
  void match_extents();
  void count_work();
  void tell_progress(uint64_t data_bytes);
  const TreeRoot& root(TreeId tree) const { return roots_[static_cast<size_t>(tree) - 1]; }

  alloc::Volume& volume_;
  const CheckOptions& options_;
  const alloc::Superblock super_;
  Generation newest_;                  // nothing in the trees may be born later
  std::optional<FsPayload> replayed_;  // instead of the superblock's
  std::optional<TreeReader> reader_;
  Findings findings_;
  LostKeys lost_;
  InodeStates states_;
  ExtentSums sums_;
  CheckReport report_;
  std::array<TreeRoot, kTreeCount> roots_;
  uint64_t work_bytes_ = 0;
};

CheckReport Check::run() {
  for (const alloc::DeviceEntry& entry : volume_.devices()) {
    const auto device = volume_.device(entry.devid);
    if (!device) {
      findings_.note(fmt::format("devid {}", entry.devid.value),
                     fmt::format("is out or missing (uuid {}, last seen as {}): the copies on it "
                                 "were not checked",
                                 entry.uuid.to_string(), entry.path));
      continue;
    }
    check_superblocks(*device, entry.devid);
    check_chunk_table(*device);
  }
  const auto record = replace::decode_record(super_.replace_payload);
  const auto fits = record ? replace::validate_in(record.value(), super_) : Result<void>(ok());
  if (!record) findings_.add("superblock", "replace record: " + record.error().message());
  if (!fits) findings_.add("superblock", fits.error().message());
  if (!alloc::leaves_generations(super_.generation)) {
    findings_.add("superblock",
                  fmt::format("generation {} is too close to the last one that is possible: the "
                              "volume can only be mounted read-only",
                              super_.generation.value));
  }
  const auto payload =
      replayed_ ? Result<FsPayload>(*replayed_) : decode_fs_payload(super_.fs_payload);
  if (payload) {
    check_trees(payload.value());
  } else {
    findings_.add("superblock", payload.error().message());
  }
  const TreeRoot fs_root = root(TreeId::fs);
  findings_.move_to(report_,
                    [&](InodeNumber ino) { return states_.path_of(ino, *reader_, fs_root); });
  return std::move(report_);
}

void Check::read_log(Result<std::optional<Transactions::Replayed>> replayed) {
  TreeReader::Nodes nodes;
  const size_t batches = volume_.found_log().batches.size();
  if (!replayed) {
    findings_.add("fsync log", fmt::format("its {} batches cannot be replayed: {}", batches,
                                           replayed.error().message()));
  } else if (auto& state = replayed.value()) {
    findings_.note("fsync log", fmt::format("{} batches; the findings are about the trees after "
                                            "their replay",
                                            batches));
    newest_ = state->generation;
    replayed_ = state->payload;
    nodes = std::move(state->nodes);
  }
  reader_.emplace(volume_, options_.cache_bytes, std::move(nodes));
}

// ---- Superblocks and chunk tables

void Check::check_superblocks(alloc::Device& device, DeviceId devid) {
  std::optional<alloc::Superblock> copies[2];
  std::optional<Error> faults[2];
  for (unsigned copy : {0u, 1u}) {
    auto read = alloc::read_superblock_copy(volume_.engine(), device, copy);
    if (read) {
      copies[copy] = std::move(read).value();
    } else {
      faults[copy] = read.error();
    }
  }
  for (unsigned copy : {0u, 1u}) {
    const std::string where = fmt::format("superblock copy {} of {}", copy, device.path());
    const CopyPlace place{devid, alloc::kSuperblockOffsets[copy]};
    if (faults[copy]) {
      const std::string what = fmt::format("{} ({})", faults[copy]->message(), describe(place));
      // A power cut may have torn the copy that was being written, or have come before copy 1 was
      // written for the first time.
      const auto& other = copies[1 - copy];
      const bool torn = *faults[copy] == Errc::bad_superblock;
      const bool first = *faults[copy] == Errc::not_found && copy == 1;
      if (other && (torn || (first && other->generation.value == 1))) {
        findings_.note(where, what + "; the other copy is good, the next commit repairs this one");
      } else {
        findings_.add(where, what);
      }
      continue;
    }
    const alloc::Superblock& super = *copies[copy];
    if (super.volume != super_.volume || super.devid != devid) {
      findings_.add(where, fmt::format("belongs to devid {} of volume {} ({})", super.devid.value,
                                       super.volume.to_string(), describe(place)));
    } else if (super.role == alloc::DeviceRole::target && copies[1 - copy] &&
               copies[1 - copy]->role == alloc::DeviceRole::member &&
               copies[1 - copy]->predecessor) {
      // A power cut during the swap of a replace: the other copy is already that of a member.
      findings_.note(where, "is still that of a replace's target; the next commit repairs it");
    } else if (super.generation + 1 < super_.generation &&
               super.generation + alloc::kReplayStep != super_.generation) {
      // Copy 0 of a generation is written only after copy 1 of the generation before is durable.
      // (Before the fsync log is replayed, kReplayStep generations are skipped.)
      findings_.add(where,
                    fmt::format("has generation {}, the volume has {} ({})", super.generation.value,
                                super_.generation.value, describe(place)));
    }
  }
}

void Check::check_chunk_table(alloc::Device& device) {
  const auto table = alloc::read_chunk_table(volume_.engine(), device, super_, volume_.devices());
  if (!table) {
    findings_.add(fmt::format("chunk table of {}", device.path()), table.error().message());
  }
}

// ---- Trees

void Check::check_trees(const FsPayload& payload) {
  roots_ = payload.roots;
  NodesSeen seen;
  count_work();

  ItemCheck items(findings_, lost_, states_, sums_, payload.counters.hash_seed);
  walk(TreeId::fs, seen, [&](const Item& item) { items.item(item); });
  items.end();
  states_.compare(payload.counters);
  report_.inodes = states_.inode_count();
  report_.directories = states_.directory_count();
  report_.extents = items.extent_count();

  ExtentCheck extents(volume_, findings_, lost_, states_, sums_, newest_, options_.data);
  walk(TreeId::extent, seen, [&](const Item& item) {
    extents.item(item);
    tell_progress(extents.bytes_done());
  });
  extents.end();
  report_.data_bytes_verified = extents.bytes_verified();
  if (sums_.any_differs()) match_extents();
  if (options_.progress) options_.progress(work_bytes_, work_bytes_);
}

void Check::walk(TreeId tree, NodesSeen& seen, const std::function<void(const Item&)>& item) {
  if (root(tree).node.birth > newest_) {
    findings_.add(std::string(name_of(tree)),
                  fmt::format("its root was born in generation {}, after the superblock's {}",
                              root(tree).node.birth.value, newest_.value));
  }
  TreeReader::Walk how;
  how.node = [&](const NodeReading& reading) { check_node(reading); };
  how.item = item;
  how.bad_pointer = [&](const NodeExpectation& expected, NodesSeen::Answer answer) {
    lost_.add(expected);
    findings_.add(std::string(name_of(expected.tree)),
                  answer == NodesSeen::Answer::seen_before
                      ? fmt::format("node {} has two parents", expected.pointer.address.value)
                      : fmt::format("a pointer leads to {}, where no node can be",
                                    expected.pointer.address.value));
  };
  reader_->walk(tree, root(tree), seen, how);
}

void Check::check_node(const NodeReading& reading) {
  const NodeExpectation& expected = reading.expected;
  const std::string where =
      fmt::format("node {} of the {}", expected.pointer.address.value, name_of(expected.tree));
  for (const NodeReading::Bad& bad : reading.bad) {
    findings_.add(where, fmt::format("copy {} is bad: {} ({})", bad.copy, bad.error.message(),
                                     describe(bad.place, volume_)));
  }
  if (!reading.node) {
    lost_.add(expected);
    findings_.add(where, fmt::format("no copy is good: the items from {} to {} are lost",
                                     describe(expected.lower), describe(expected.upper)));
  } else if (const auto chunk =
                 alloc::find_chunk(volume_.mapper().current()->chunks(), expected.pointer.address);
             chunk != nullptr && expected.pointer.birth < chunk->birth) {
    findings_.add(where, fmt::format("was born in generation {}, before its chunk in {}",
                                     expected.pointer.birth.value, chunk->birth.value));
  }
  ++report_.nodes;
  if (expected.tree == TreeId::fs) tell_progress(0);
}

void Check::match_extents() {
  ExtentMatch match(findings_, lost_, sums_);
  NodesSeen seen;
  TreeReader::Walk how;
  how.item = [&](const Item& item) { match.fs_item(item); };
  reader_->walk(TreeId::fs, root(TreeId::fs), seen, how);
  how.item = [&](const Item& item) { match.extent_item(item); };
  reader_->walk(TreeId::extent, root(TreeId::extent), seen, how);
  match.compare();
}

// ---- Progress

/// Counts the nodes by reading the inner ones, and with `data` adds the bytes in the usage records.
void Check::count_work() {
  if (!options_.progress) return;
  NodesSeen seen;
  TreeReader::Walk inner;
  inner.inner_only = true;
  inner.node = [&](const NodeReading& reading) {
    work_bytes_ += kNodeSize;
    if (reading.node && reading.expected.level == 1) {
      work_bytes_ += reading.node->count() * kNodeSize;
    }
  };
  for (TreeId tree : {TreeId::fs, TreeId::extent}) reader_->walk(tree, root(tree), seen, inner);
  if (!options_.data) return;
  const auto add_usage = [&](const Item& item) {
    if (const auto usage = load_exactly<ChunkUsageOnDisk>(item.value)) {
      work_bytes_ += usage->used_bytes;
    }
    return true;
  };
  // Damage is reported by the walk that follows.
  (void)reader_->scan(TreeId::extent, root(TreeId::extent), usage_key(LogicalOffset(0)),
                      usage_key(LogicalOffset(UINT64_MAX)), add_usage);
}

void Check::tell_progress(uint64_t data_bytes) {
  if (!options_.progress) return;
  const uint64_t done = report_.nodes * kNodeSize + (options_.data ? data_bytes : 0);
  options_.progress(std::min(done, work_bytes_), work_bytes_);
}

}  // namespace
}  // namespace checking

Result<CheckReport> check(Runtime& runtime, alloc::DeviceOpener& opener,
                          const std::vector<std::string>& paths, const CheckOptions& options) {
  alloc::Volume::OpenOptions how;
  how.read_only = true;
  how.hints = options.hints;
  how.degraded = options.degraded;
  TRY(const auto volume, alloc::Volume::open(runtime, opener, paths, how));
  return checking::Check(*volume, options, replay_for_reading(*volume)).run();
}

}  // namespace moltfs::fs
