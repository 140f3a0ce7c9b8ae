// SPDX-License-Identifier: MIT
// Check and dump answer whatever is on the device.
#include <random>

#include "fs/check/check_test_util.h"
#include "fs/check/dump.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

/// Everything that reads a volume offline.
void read_all(DamagedVolume& p) {
  (void)p.try_check();
  DumpRequest request;
  request.paths = {"mem:a"};
  request.print = [](std::string_view) {};
  (void)dump_superblocks(p.runtime, p.devices, request);
  (void)dump_chunks(p.runtime, p.devices, request, true);
  (void)dump_tree(p.runtime, p.devices, request, TreeId::fs, std::nullopt);
  (void)dump_tree(p.runtime, p.devices, request, TreeId::extent, std::nullopt);
  (void)dump_inode(p.runtime, p.devices, request, "/dir/sub/big");
  (void)dump_replace(p.runtime, p.devices, request);
  (void)dump_log(p.runtime, p.devices, request);
}

struct AnyItem {
  TreeId tree;
  Key key;
  std::vector<std::byte> value;
};

std::vector<AnyItem> all_items() {
  DamagedVolume p;
  std::vector<AnyItem> items;
  p.read([&](alloc::Volume&, TreeReader& reader, const auto& roots) {
    for (TreeId tree : {TreeId::fs, TreeId::extent}) {
      NodesSeen seen;
      TreeReader::Walk walk;
      walk.item = [&](const Item& item) {
        items.push_back({tree, item.key, {item.value.begin(), item.value.end()}});
      };
      reader.walk(tree, roots[static_cast<size_t>(tree) - 1], seen, walk);
    }
    return 0;
  });
  return items;
}

}  // namespace

TEST_CASE("random bits of superblocks, chunk tables and nodes are flipped") {
  std::mt19937_64 random(1);
  const uint64_t places[] = {alloc::kSuperblockOffsets[0], alloc::kSuperblockOffsets[1],
                             alloc::kChunkTableOffsets[0], alloc::kChunkTableOffsets[1]};
  for (int life = 0; life < 60; ++life) {
    DamagedVolume p;
    for (int flip = 0; flip < 1 + life % 4; ++flip) {
      const uint64_t at = life % 2 == 0 ? places[random() % 4] + random() % 4096
                                        : alloc::kFirstChunkOffset + random() % (8 << 20);
      std::byte byte;
      p.disk().read(at, {&byte, 1});
      byte ^= std::byte(1 << random() % 8);
      p.disk().write(at, {&byte, 1});
    }
    read_all(p);
  }
}

TEST_CASE("random items are changed, with valid checksums") {
  std::mt19937_64 random(2);
  const auto items = all_items();
  REQUIRE(items.size() > 2000);
  int found = 0;
  for (int life = 0; life < 150; ++life) {
    DamagedVolume p;
    AnyItem item = items[random() % items.size()];
    switch (random() % 4) {
      case 0:
        p.erase(item.tree, item.key);
        break;
      case 1:
        item.value.resize(random() % (item.value.size() + 20));
        p.put(item.tree, item.key, item.value);
        break;
      case 2:
        p.put(item.tree,
              {item.key.object, static_cast<uint8_t>(item.key.type + random() % 3), random()},
              item.value);
        break;
      default:
        for (int i = 0; i < 3 && !item.value.empty(); ++i) {
          item.value[random() % item.value.size()] ^= std::byte(1 << random() % 8);
        }
        p.put(item.tree, item.key, item.value);
    }
    const auto report = p.try_check();
    REQUIRE(report);
    if (!report.value().clean()) ++found;
    read_all(p);
  }
  CHECK(found > 120);  // any value of a time or owner is valid
}

TEST_CASE("random superblocks, with valid checksums") {
  std::mt19937_64 random(3);
  const auto original = [] {
    DamagedVolume p;
    return must(alloc::read_superblock_copy(p.devices, *must(p.devices.open("mem:a", {})), 0));
  }();
  int found = 0;
  for (int life = 0; life < 200; ++life) {
    DamagedVolume p;
    auto super = original;
    for (int i = 0; i < 2; ++i) {
      super.fs_payload[random() % super.fs_payload.size()] ^= std::byte(1 << random() % 8);
    }
    if (life % 3 == 0) super.replace_payload.assign(random() % 200, std::byte(random() % 256));
    {
      auto device = must(p.devices.open("mem:a", {}));
      if (!alloc::write_superblock(p.devices, *device, super)) continue;
    }
    const auto report = p.try_check(false);
    if (!report || !report.value().clean()) ++found;
    read_all(p);
  }
  CHECK(found > 180);  // a greater next inode number is valid
}
