// SPDX-License-Identifier: MIT
#include "test/fuzz/base_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "alloc/base/codec.h"
#include "test/fuzz/small_images.h"
#include "test/fuzz/targets.h"

namespace moltfs::fuzz {
namespace {

std::string corpus_folder = MOLTFS_FUZZ_CORPUS;
size_t small_images = 0;

/// What zstd unpacks from `path`.
ByteVector unpack(const std::string& path) {
  ByteVector bytes;
  FILE* pipe = ::popen(fmt::format("zstd -dcq '{}'", path).c_str(), "r");
  if (pipe == nullptr) return bytes;
  ByteVector part(1 << 16);
  for (size_t got; (got = ::fread(part.data(), 1, part.size(), pipe)) > 0;) {
    bytes.insert(bytes.end(), part.begin(), part.begin() + static_cast<ptrdiff_t>(got));
  }
  ::pclose(pipe);
  return bytes;
}

/// The devices of a packed image (see test/fuzz/pack). None if it is damaged.
std::vector<std::shared_ptr<test::MemoryDisk>> disks_of(ConstBytes packed) {
  std::vector<std::shared_ptr<test::MemoryDisk>> disks;
  ByteReader reader(packed);
  while (!reader.at_end()) {
    const auto size = reader.u64();
    const auto count = reader.u64();
    if (!size || !count) return {};
    auto disk = std::make_shared<test::MemoryDisk>(size.value(), 512);
    std::vector<uint64_t> offsets;
    for (uint64_t i = 0; i < count.value(); ++i) {
      const auto offset = reader.u64();
      if (!offset) return {};
      offsets.push_back(offset.value());
    }
    for (const uint64_t offset : offsets) {
      const auto block = reader.bytes(kBlockSize);
      if (!block) return {};
      disk->write(offset, block.value());
    }
    disks.push_back(std::move(disk));
  }
  return disks;
}

BaseImage parsed(std::string name, std::vector<std::shared_ptr<test::MemoryDisk>> disks) {
  auto raw = RawImage::parse(disks);
  if (!raw || disks.size() > kMemberPaths.size()) fail(name + " cannot be parsed");
  return {std::move(name), std::move(disks), std::move(*raw)};
}

std::vector<BaseImage> load_all() {
  std::vector<BaseImage> images;
  for (SmallImage& small : make_small_images()) {
    images.push_back(parsed(std::move(small.name), std::move(small.disks)));
  }
  small_images = images.size();
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(corpus_folder)) {
    if (entry.path().extension() == ".zst") files.push_back(entry.path());
  }
  if (files.empty()) fail("no images in " + corpus_folder);
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    images.push_back(parsed(file.stem().string(), disks_of(unpack(file.string()))));
  }
  return images;
}

}  // namespace

void set_corpus_folder(const std::string& path) {
  corpus_folder = path;
}

const std::vector<BaseImage>& base_images() {
  static const std::vector<BaseImage> images = load_all();
  return images;
}

size_t small_image_count() {
  (void)base_images();
  return small_images;
}

}  // namespace moltfs::fuzz
