// SPDX-License-Identifier: MIT
// What dump prints of a known volume, healthy and damaged.
#include "fs/check/dump.h"

#include "fs/check/check_test_util.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

struct Printed {
  std::string text;
  DumpRequest request;
  Printed() {
    request.paths = {"mem:a"};
    request.print = [this](std::string_view piece) { text += piece; };
  }
  bool has(const std::string& what) const {
    if (text.find(what) != std::string::npos) return true;
    UNSCOPED_INFO(text.substr(0, 4000));
    return false;
  }
};

}  // namespace

TEST_CASE("superblocks are printed, valid or not") {
  DamagedVolume p;
  p.disk().corrupt(alloc::kSuperblockOffsets[1] + 100, 1);
  Printed out;
  must(dump_superblocks(p.runtime, p.devices, out.request));
  CHECK(out.has("superblock copy 0 at 65536: valid"));
  CHECK(out.has("superblock copy 1 at 3145728: not valid"));
  CHECK(out.has("filesystem tree: root at "));
}

TEST_CASE("chunks are printed as text and as JSON") {
  DamagedVolume p;
  Printed text, json;
  must(dump_chunks(p.runtime, p.devices, text.request, false));
  CHECK(text.has("metadata dup born 1"));
  must(dump_chunks(p.runtime, p.devices, json.request, true));
  CHECK(json.has("\"chunks\": ["));
  CHECK(
      json.has("\"kind\": \"metadata\", \"profile\": \"dup\", \"birth\": 1, \"stripes\": "
               "[{\"devid\": 1, \"offset\": 4194304"));
  CHECK(json.has("\"kind\": \"data\", \"profile\": \"single\""));
}

TEST_CASE("a tree is printed, or one node of it") {
  DamagedVolume p;
  Printed all, one;
  must(dump_tree(p.runtime, p.devices, all.request, TreeId::fs, std::nullopt));
  CHECK(all.has("entry \"big\" -> inode "));
  const auto leaf = p.read([](alloc::Volume&, TreeReader& reader, const auto& roots) {
    LogicalOffset last;
    NodesSeen seen;
    TreeReader::Walk walk;
    walk.node = [&](const NodeReading& reading) { last = reading.expected.pointer.address; };
    reader.walk(TreeId::extent, roots[1], seen, walk);
    return last;
  });
  must(dump_tree(p.runtime, p.devices, one.request, TreeId::extent, leaf));
  CHECK(one.text.find("node " + std::to_string(leaf.value)) == 0);
  CHECK(one.has("bytes used\n"));  // usage records end the tree
  Printed none;
  CHECK(code_of(dump_tree(p.runtime, p.devices, none.request, TreeId::extent,
                          LogicalOffset{4096})) == Errc::not_found);
}

TEST_CASE("an inode is found by path and by number") {
  DamagedVolume p;
  Printed by_path, by_number;
  must(dump_inode(p.runtime, p.devices, by_path.request, "/dir//sub/big"));
  CHECK(by_path.has("size 3000000"));
  CHECK(by_path.has("attribute user.long: 20000 bytes"));
  CHECK(by_path.has("copy 0: devid 1, offset "));
  CHECK(by_path.has("born in "));
  must(dump_inode(p.runtime, p.devices, by_number.request,
                  std::to_string(ino_of("/dir/sub/big").value)));
  CHECK(by_number.text == by_path.text);
  Printed none;
  const auto code = [&](const std::string& which) {
    return code_of(dump_inode(p.runtime, p.devices, none.request, which));
  };
  CHECK(code("/dir/nothing") == Errc::not_found);
  CHECK(code("/dir/small/below") == Errc::not_found);
  CHECK(code("99999") == Errc::not_found);
  CHECK(code("dir") == Errc::invalid_argument);
}

TEST_CASE("a volume without a replace record has state none") {
  DamagedVolume p;
  Printed out;
  must(dump_replace(p.runtime, p.devices, out.request));
  CHECK(out.has("state            none"));
}
