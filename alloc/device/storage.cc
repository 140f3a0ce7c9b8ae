// SPDX-License-Identifier: MIT
// Walking down the layers of storages and filesystems.
#include "alloc/device/storage.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "alloc/device/mountinfo.h"

namespace moltfs::alloc {
namespace {

constexpr size_t kMaxLayers = 256;  // far more than the kernel allows

uint64_t sum(uint64_t a, uint64_t b) {
  return a > StorageLayer::kToTheEnd - b ? StorageLayer::kToTheEnd : a + b;
}

/// The layer below `above`, which holds `above` from `offset` on for `length` bytes (0: to the end).
StorageLayer below(const StorageLayer& above, StorageId id, StorageLayer::Reached reached,
                   uint64_t offset, uint64_t length) {
  StorageLayer layer;
  layer.id = id;
  layer.reached = reached;
  layer.is_exact = above.is_exact;
  const uint64_t limit = length == 0 ? StorageLayer::kToTheEnd : sum(offset, length);
  layer.start = std::min(sum(offset, above.start), limit);
  layer.end = std::min(sum(offset, above.end), limit);
  return layer;
}

void add_below(StorageFacts& facts, const StorageLayer& above, std::vector<StorageLayer>& layers) {
  using Reached = StorageLayer::Reached;
  const dev_t number = above.id.device;
  if (const auto loop = facts.loop(number)) {
    layers.push_back(below(above, loop->backing, Reached::by_loop, loop->offset, loop->length));
    layers.back().filesystem = loop->filesystem;
    layers.back().path = loop->path;
  } else if (const auto partition = facts.partition(number)) {
    layers.push_back(below(above, {true, partition->disk, 0}, Reached::by_partition,
                           partition->start, partition->length));
  } else {
    for (const dev_t component : facts.components(number)) {
      StorageLayer layer;
      layer.id = {true, component, 0};
      layer.is_exact = false;
      layer.reached = Reached::by_mapper;
      layers.push_back(layer);
    }
  }
}

/// Remembers which filesystems were visited: facts may be in a circle.
class Descent {
 public:
  Descent(StorageFacts& facts, dev_t served) : facts_(facts), served_(served) {}

  bool reaches(dev_t filesystem) {
    if (filesystem == served_) return true;
    if (filesystem == 0 || !visited_.insert(filesystem).second) return false;
    const StorageFacts::Below under = facts_.below(filesystem);
    return std::any_of(under.filesystems.begin(), under.filesystems.end(),
                       [this](dev_t other) { return reaches(other); }) ||
           std::any_of(under.storages.begin(), under.storages.end(),
                       [this](const StorageId& id) { return reaches(layers_of(facts_, id)); });
  }
  bool reaches(const std::vector<StorageLayer>& layers) {
    return std::any_of(layers.begin(), layers.end(), [this](const StorageLayer& layer) {
      if (layer.id.is_block_device) return false;
      return reaches(layer.id.device) || reaches(layer.filesystem);
    });
  }

 private:
  StorageFacts& facts_;
  const dev_t served_;
  std::set<dev_t> visited_;
};

}  // namespace

std::string to_text(const StorageId& id) {
  if (id.is_block_device) return fmt::format("block {}:{}", major(id.device), minor(id.device));
  return fmt::format("file {}:{}:{}", major(id.device), minor(id.device), id.inode);
}

std::optional<StorageId> parse_storage_id(std::string_view text) {
  constexpr std::string_view kBlock = "block ", kFile = "file ";
  StorageId id;
  id.is_block_device = text.starts_with(kBlock);
  if (!id.is_block_device && !text.starts_with(kFile)) return std::nullopt;
  text.remove_prefix(id.is_block_device ? kBlock.size() : kFile.size());
  if (!id.is_block_device) {
    const size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return std::nullopt;
    const std::string_view inode = text.substr(colon + 1);
    const auto [end, error] = std::from_chars(inode.data(), inode.data() + inode.size(), id.inode);
    if (error != std::errc() || end != inode.data() + inode.size()) return std::nullopt;
    text = text.substr(0, colon);
  }
  id.device = device_number_of(text);
  return id.device == 0 ? std::nullopt : std::optional(id);
}

std::vector<StorageLayer> layers_of(StorageFacts& facts, const StorageId& storage,
                                    dev_t filesystem) {
  std::vector<StorageLayer> layers(1);
  layers[0].id = storage;
  layers[0].filesystem = filesystem;
  for (size_t i = 0; i < layers.size() && layers.size() < kMaxLayers; ++i) {
    const StorageLayer above = layers[i];
    if (above.id.is_block_device) add_below(facts, above, layers);
  }
  return layers;
}

bool overlap(const std::vector<StorageLayer>& one, const std::vector<StorageLayer>& other) {
  for (const StorageLayer& a : one) {
    for (const StorageLayer& b : other) {
      if (a.id != b.id || (!a.is_exact && !b.is_exact)) continue;
      if (a.start < b.end && b.start < a.end) return true;
    }
  }
  return false;
}

bool stands_on(StorageFacts& facts, dev_t filesystem, dev_t served) {
  return Descent(facts, served).reaches(filesystem);
}

bool stands_on(StorageFacts& facts, const std::vector<StorageLayer>& layers, dev_t served) {
  return Descent(facts, served).reaches(layers);
}

}  // namespace moltfs::alloc
