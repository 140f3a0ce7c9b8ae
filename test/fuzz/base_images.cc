// SPDX-License-Identifier: MIT
#include "test/fuzz/base_images.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "alloc/base/codec.h"

namespace moltfs::fuzz {
namespace {

std::string corpus_folder = MOLTFS_FUZZ_CORPUS;

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

std::vector<BaseImage> load_all() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(corpus_folder)) {
    if (entry.path().extension() == ".zst") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<BaseImage> images;
  for (const auto& file : files) {
    BaseImage image;
    image.name = file.stem().string();
    image.disks = disks_of(unpack(file.string()));
    auto raw = RawImage::parse(image.disks);
    if (!raw) {
      fmt::print(stderr, "fuzz: {} cannot be parsed\n", file.string());
      std::exit(2);
    }
    image.raw = std::move(*raw);
    images.push_back(std::move(image));
  }
  if (images.empty()) {
    fmt::print(stderr, "fuzz: no images in {}\n", corpus_folder);
    std::exit(2);
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

}  // namespace moltfs::fuzz
