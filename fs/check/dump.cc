// SPDX-License-Identifier: MIT
// Printing what is on the devices.
#include "fs/check/dump.h"

#include <fmt/format.h>

#include <charconv>

#include "alloc/base/json.h"
#include "alloc/disk/chunk_table.h"
#include "alloc/disk/peek.h"
#include "fs/check/describe_item.h"
#include "fs/check/tree_reader.h"
#include "fs/content/extents.h"
#include "fs/content/log_data.h"
#include "fs/names/dir_entry.h"
#include "replace/record.h"

namespace moltfs::fs {
namespace {

constexpr unsigned kMaxCopies = 8;  // no profile has more
constexpr uint64_t kReaderCacheBytes = 16 << 20;

Result<std::unique_ptr<alloc::Volume>> open_volume(Runtime& runtime, alloc::DeviceOpener& opener,
                                                   const DumpRequest& request) {
  alloc::Volume::OpenOptions how;
  how.read_only = true;
  how.hints = request.hints;
  how.degraded = true;
  return alloc::Volume::open(runtime, opener, request.paths, how);
}

/// The trees as the next mount would have them; without the fsync log if it cannot be replayed.
struct Trees {
  FsPayload payload;
  TreeReader::Nodes replayed;
};

Result<Trees> trees_of(alloc::Volume& volume, const DumpRequest& request) {
  auto replayed = replay_for_reading(volume);
  if (replayed && replayed.value()) {
    return Trees{replayed.value()->payload, std::move(replayed.value()->nodes)};
  }
  if (!replayed) {
    request.print("the fsync log cannot be replayed: " + replayed.error().message() + "\n");
  }
  TRY(auto payload, decode_fs_payload(volume.superblock().fs_payload));
  return Trees{payload, {}};
}

std::string describe_payload(const alloc::Superblock& super) {
  if (super.role != alloc::DeviceRole::member) return {};
  const auto payload = decode_fs_payload(super.fs_payload);
  if (!payload) return "fs payload   not valid: " + payload.error().message() + "\n";
  std::string out;
  for (size_t i = 0; i < kTreeCount; ++i) {
    const TreeRoot& root = payload.value().roots[i];
    out += fmt::format("{}: root at {}, level {}, born in {}, checksum {:016x}\n",
                       name_of(static_cast<TreeId>(i + 1)), root.node.address.value, root.level,
                       root.node.birth.value, root.node.checksum);
  }
  const FsCounters& counters = payload.value().counters;
  return out + fmt::format("inodes: {}, the next is {}; hash seed {:016x}\n", counters.inode_count,
                           counters.next_inode, counters.hash_seed);
}

Json chunk_json(const alloc::Chunk& chunk) {
  Json stripes = Json::list();
  for (const alloc::Stripe& stripe : chunk.stripes) {
    stripes.append(Json::object({{"devid", stripe.device.value},
                                 {"offset", stripe.offset.value},
                                 {"birth", stripe.birth.value}}));
  }
  return Json::object({{"start", chunk.start.value},
                       {"length", chunk.length},
                       {"kind", alloc::name_of(chunk.kind)},
                       {"profile", alloc::name_of(chunk.profile)},
                       {"birth", chunk.birth.value},
                       {"stripes", std::move(stripes)}});
}

/// The node as text, and what is wrong with its copies.
std::string describe_reading(const NodeReading& reading) {
  std::string out;
  for (const NodeReading::Bad& bad : reading.bad) {
    out += fmt::format("node {} of the {}: copy {} is bad: {} ({})\n",
                       reading.expected.pointer.address.value, name_of(reading.expected.tree),
                       bad.copy, bad.error.message(), describe(bad.place));
  }
  if (!reading.node) {
    return out + fmt::format("node {} of the {}, level {}: cannot be used\n",
                             reading.expected.pointer.address.value, name_of(reading.expected.tree),
                             reading.expected.level);
  }
  return out + describe(*reading.node, [&](const Item& item) {
           return describe_item(reading.expected.tree, item);
         });
}

// ---- Inodes

class InodeDump {
 public:
  InodeDump(alloc::Volume& volume, Trees trees, const DumpRequest& request)
      : volume_(volume),
        payload_(trees.payload),
        request_(request),
        reader_(volume, kReaderCacheBytes, std::move(trees.replayed)) {}

  Result<InodeNumber> resolve(const std::string& which);
  Result<void> dump(InodeNumber ino);

 private:
  const TreeRoot& root(TreeId tree) const { return payload_.roots[static_cast<size_t>(tree) - 1]; }
  Result<std::optional<InodeNumber>> find_entry(InodeNumber directory, std::string_view name);
  std::string describe_extent(const Extent& extent);
  std::string describe_record(const Extent& extent);

  alloc::Volume& volume_;
  const FsPayload payload_;
  const DumpRequest& request_;
  TreeReader reader_;
};

Result<InodeNumber> InodeDump::resolve(const std::string& which) {
  uint64_t number = 0;
  const char* end = which.data() + which.size();
  const auto parsed = std::from_chars(which.data(), end, number);
  if (parsed.ec == std::errc() && parsed.ptr == end) return InodeNumber{number};
  if (!which.starts_with('/')) {
    return Error(Errc::invalid_argument,
                 fmt::format("\"{}\" is neither a number nor a path from the root", which));
  }
  InodeNumber ino = kRootInode;
  for (size_t at = 0; at < which.size();) {
    const size_t slash = std::min(which.find('/', at), which.size());
    const std::string_view name = std::string_view(which).substr(at, slash - at);
    at = slash + 1;
    if (name.empty()) continue;
    TRY(const auto found, find_entry(ino, name));
    if (!found)
      return Error(Errc::not_found, fmt::format("there is no {}", which.substr(0, slash)));
    ino = *found;
  }
  return ino;
}

Result<std::optional<InodeNumber>> InodeDump::find_entry(InodeNumber directory,
                                                         std::string_view name) {
  const uint64_t first = entry_offset(name, payload_.counters.hash_seed);
  std::optional<InodeNumber> result;
  TRY(reader_.scan(TreeId::fs, root(TreeId::fs), entry_key(directory, first),
                   entry_key(directory, first + kSlotsPerHash - 1), [&](const Item& item) {
                     const auto entry = decode_entry(item.key, item.value);
                     if (!entry || entry.value().name != name) return true;
                     result = entry.value().ino;
                     return false;
                   }));
  return result;
}

Result<void> InodeDump::dump(InodeNumber ino) {
  const Key first{ino.value, 0, 0}, last{ino.value, UINT8_MAX, UINT64_MAX};
  bool any = false;
  std::vector<Extent> extents;
  TRY(reader_.scan(TreeId::fs, root(TreeId::fs), first, last, [&](const Item& item) {
    if (!any) request_.print(fmt::format("inode {}\n", ino.value));
    any = true;
    const auto extent = decode_file_extent(item);
    const bool is_extent = item.key.type == static_cast<uint8_t>(ItemType::extent) && extent;
    const std::string text =
        is_extent ? describe_extent(extent.value()) : describe_item(TreeId::fs, item);
    request_.print("  " + text + "\n");
    return true;
  }));
  if (any) return ok();
  return Error(Errc::not_found, fmt::format("there is no inode {}", ino.value));
}

std::string InodeDump::describe_extent(const Extent& extent) {
  std::string out =
      fmt::format("extent at {}: {} bytes at address {}{}", extent.file_offset, extent.length,
                  extent.logical.value, extent.unwritten ? ", unwritten" : "");
  const auto map = volume_.mapper().current();
  for (unsigned copy = 0; copy < kMaxCopies; ++copy) {
    const auto place = place_of(*map, extent.logical, copy);
    if (!place) break;
    out += fmt::format("; copy {}: {}", copy, describe(*place));
  }
  return out + describe_record(extent);
}

std::string InodeDump::describe_record(const Extent& extent) {
  const Key key = record_key(extent.logical);
  const auto value = reader_.find(TreeId::extent, root(TreeId::extent), key);
  if (!value) return "; its record cannot be read: " + value.error().message();
  if (!value.value()) return "; it has no record";
  const auto record = decode_record({key, *value.value()});
  if (!record) return "; its record is not valid: " + record.error().message();
  return fmt::format("; born in {}", record.value().birth.value);
}

}  // namespace

Result<void> dump_superblocks(Runtime&, alloc::DeviceOpener& opener, const DumpRequest& request) {
  for (const std::string& path : request.paths) {
    TRY(const auto device, alloc::open_shared(opener, path));
    for (unsigned copy : {0u, 1u}) {
      const auto super = alloc::read_superblock_copy(opener.engine(), *device, copy);
      request.print(fmt::format("{}: superblock copy {} at {}: {}\n", path, copy,
                                alloc::kSuperblockOffsets[copy],
                                super ? "valid" : "not valid: " + super.error().message()));
      if (!super) continue;
      request.print(alloc::describe(super.value()) + describe_payload(super.value()));
    }
  }
  return ok();
}

Result<void> dump_chunks(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request,
                         bool json) {
  TRY(const auto volume, open_volume(runtime, opener, request));
  const auto map = volume->mapper().current();
  if (!json) {
    request.print(alloc::describe(map->chunks()));
    return ok();
  }
  Json chunks = Json::list();
  for (const auto& chunk : map->chunks()) chunks.append(chunk_json(*chunk));
  request.print(Json::object({{"chunks", std::move(chunks)}}).pretty(2) + "\n");
  return ok();
}

Result<void> dump_tree(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request,
                       TreeId tree, std::optional<LogicalOffset> node) {
  TRY(const auto volume, open_volume(runtime, opener, request));
  TRY(auto trees, trees_of(*volume, request));
  const TreeReader reader(*volume, kReaderCacheBytes, std::move(trees.replayed));
  bool printed = false;
  const auto print = [&](const NodeReading& reading) {
    if (node && reading.expected.pointer.address != *node) return;
    request.print(describe_reading(reading));
    printed = true;
  };
  TreeReader::Walk walk;
  walk.inner_only = node.has_value();
  walk.node = [&](const NodeReading& reading) {
    print(reading);
    // The walk reads inner nodes only: a leaf is read if its address is the one.
    if (!node || printed || !reading.node || reading.expected.level != 1) return;
    for (const NodeExpectation& child : children_of(*reading.node, reading.expected)) {
      if (child.pointer.address != *node) continue;
      NodeReading leaf{child, nullptr, {}};
      reader.read({&leaf, 1});
      print(leaf);
    }
  };
  NodesSeen seen;
  reader.walk(tree, trees.payload.roots[static_cast<size_t>(tree) - 1], seen, walk);
  if (printed) return ok();
  return Error(Errc::not_found, fmt::format("the {} has no such node", name_of(tree)));
}

Result<void> dump_inode(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request,
                        const std::string& which) {
  TRY(const auto volume, open_volume(runtime, opener, request));
  TRY(auto trees, trees_of(*volume, request));
  InodeDump dump(*volume, std::move(trees), request);
  TRY(const auto ino, dump.resolve(which));
  return dump.dump(ino);
}

Result<void> dump_replace(Runtime& runtime, alloc::DeviceOpener& opener,
                          const DumpRequest& request) {
  TRY(const auto volume, open_volume(runtime, opener, request));
  TRY(const auto record, replace::decode_record(volume->superblock().replace_payload));
  request.print(replace::describe(record));
  return ok();
}

Result<void> dump_log(Runtime& runtime, alloc::DeviceOpener& opener, const DumpRequest& request) {
  TRY(const auto volume, open_volume(runtime, opener, request));
  const alloc::FoundLog& log = volume->found_log();
  request.print(fmt::format("{} batches on generation {}{}\n", log.batches.size(),
                            volume->superblock().generation.value,
                            log.begun && log.batches.empty() ? ", the first one is torn" : ""));
  for (size_t i = 0; i < log.batches.size(); ++i) {
    const alloc::LogBatch& batch = log.batches[i];
    request.print(fmt::format("batch {}: written in {}, {} bytes, {} new chunks{}\n", i,
                              batch.running.value, batch.payload.size(), batch.chunks.size(),
                              batch.data_flushed ? ", data flushed before" : ""));
    const auto content = decode_log_content(batch.payload);
    if (!content) {
      request.print("  not valid: " + content.error().message() + "\n");
      continue;
    }
    for (const LogContent::Item& item : content.value().items) {
      request.print(fmt::format("  {}: {}\n", name_of(item.id.tree),
                                item.value ? describe_item(item.id.tree, {item.id.key, *item.value})
                                           : "erase " + describe(item.id.key)));
    }
  }
  return ok();
}

}  // namespace moltfs::fs
