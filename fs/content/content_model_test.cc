// SPDX-License-Identifier: MIT
// Random operations on the content of files against plain vectors of bytes, with a tiny cache,
// commits and remounts.
#include <algorithm>
#include <map>

#include "fs/content/content_test_util.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

using Content = std::vector<std::byte>;

class Model {
 public:
  Model(uint64_t seed, uint64_t max_bytes, const TestFiles::Options& options)
      : world_(options), random_(seed), max_bytes_(max_bytes) {
    for (int i = 0; i < 3; ++i) {
      files_.push_back(world_.make_file("file" + std::to_string(i)));
      contents_.emplace_back();
    }
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      if (i % 25 == 0) check_all();
    }
    check_all();
    world_.reopen();
    check_all();
  }

 private:
  uint64_t below(uint64_t n) { return random_() % n; }
  uint64_t some_offset() {
    uint64_t at = below(max_bytes_);
    if (below(3) == 0) at = round_down(at, kBlockSize);
    if (below(4) == 0) at %= 3000;
    return at;
  }
  uint64_t some_length() {
    switch (below(4)) {
      case 0:
        return 1 + below(100);
      case 1:
        return kBlockSize * (1 + below(8));
      default:
        return 1 + below(max_bytes_ / 4);
    }
  }

  void step() {
    const size_t f = below(files_.size());
    switch (below(14)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return write(f);
      case 4:
        return append(f);
      case 5:
        return truncate(f);
      case 6:
        return punch(f, AllocateMode::punch_hole);
      case 7:
        return punch(f, AllocateMode::zero_range);
      case 8:
        return allocate(f);
      case 9:
        return copy(f);
      case 10:
        return seek(f);
      case 11:
        REQUIRE(world_.filesystem->sync());
        return;
      case 12:
        if (below(4) == 0) world_.reopen();
        return;
      default:
        return read(f);
    }
  }

  static void overlay(Content& content, uint64_t at, ConstBytes bytes) {
    if (content.size() < at + bytes.size()) content.resize(at + bytes.size());
    std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<ptrdiff_t>(at));
  }

  void write(size_t f) {
    const uint64_t at = some_offset(), length = some_length();
    AlignedBuffer buffer(round_up(length, kBlockSize) + kBlockSize);
    const uint64_t skew = below(2) == 0 ? at % kBlockSize : below(kBlockSize);
    const Bytes bytes = buffer.span().subspan(skew, length);
    for (auto& b : bytes) b = static_cast<std::byte>(random_() | 1);
    world_.write(files_[f], at, bytes);
    overlay(contents_[f], at, bytes);
  }
  void append(size_t f) {
    const auto bytes = random_bytes(random_, 1 + below(6000));
    if (contents_[f].size() > 2 * max_bytes_) return;
    WriteFlags flags;
    flags.append = true;
    const auto at = world_.filesystem->write(files_[f], below(100), bytes, flags);
    REQUIRE(at);
    REQUIRE(at.value() == contents_[f].size());
    overlay(contents_[f], at.value(), bytes);
  }
  void truncate(size_t f) {
    const uint64_t size = below(3) == 0 ? below(4000) : below(max_bytes_);
    REQUIRE(world_.resize(files_[f], size));
    contents_[f].resize(size);
  }
  void punch(size_t f, AllocateMode mode) {
    const uint64_t at = some_offset(), length = some_length();
    const bool keep_size = below(2) == 0;
    REQUIRE(world_.filesystem->allocate(files_[f], mode, at, length, keep_size));
    Content& content = contents_[f];
    if (mode == AllocateMode::zero_range && !keep_size && content.size() < at + length) {
      content.resize(at + length);
    }
    const uint64_t end = std::min<uint64_t>(at + length, content.size());
    for (uint64_t i = at; i < end; ++i) content[i] = std::byte{0};
  }
  void allocate(size_t f) {
    const uint64_t at = some_offset(), length = some_length();
    const bool keep_size = below(2) == 0;
    REQUIRE(world_.filesystem->allocate(files_[f], AllocateMode::allocate, at, length, keep_size));
    if (!keep_size && contents_[f].size() < at + length) contents_[f].resize(at + length);
  }
  void copy(size_t f) {
    const size_t g = below(files_.size());
    const uint64_t from = some_offset(), to = some_offset(), length = some_length();
    const auto copied = world_.filesystem->copy_range(files_[f], from, files_[g], to, length);
    if (f == g && from < to + length && to < from + length) {
      REQUIRE(!copied);
      REQUIRE(copied.error() == Errc::invalid_argument);
      return;
    }
    REQUIRE(copied);
    const Content& source = contents_[f];
    const uint64_t expected =
        from >= source.size() ? 0 : std::min<uint64_t>(length, source.size() - from);
    REQUIRE(copied.value() == expected);
    if (expected == 0) return;
    const auto begin = source.begin() + static_cast<ptrdiff_t>(from);
    const Content bytes(begin, begin + static_cast<ptrdiff_t>(expected));
    overlay(contents_[g], to, bytes);
  }
  void read(size_t f) {
    const uint64_t at = some_offset(), length = some_length();
    AlignedBuffer buffer(round_up(length, kBlockSize) + kBlockSize);
    const Bytes into = buffer.span().subspan(below(2) * below(kBlockSize), length);
    const auto got = world_.filesystem->read(files_[f], at, into);
    REQUIRE(got);
    const Content& content = contents_[f];
    const uint64_t expected =
        at >= content.size() ? 0 : std::min<uint64_t>(length, content.size() - at);
    REQUIRE(got.value() == expected);
    REQUIRE(std::equal(into.begin(), into.begin() + static_cast<ptrdiff_t>(expected),
                       content.begin() + static_cast<ptrdiff_t>(at)));
  }
  /// Walks the file by data and holes: what is no data is zero, and the two take turns.
  void seek(size_t f) {
    const Content& content = contents_[f];
    uint64_t at = 0;
    while (at < content.size()) {
      const auto data = world_.filesystem->seek(files_[f], at, SeekWhence::data);
      const uint64_t data_at = data ? data.value() : content.size();
      if (!data) REQUIRE(data.error() == Errc::no_such_offset);
      REQUIRE(data_at >= at);
      for (uint64_t i = at; i < data_at; ++i) REQUIRE(content[i] == std::byte{0});
      if (data_at == content.size()) break;
      const auto hole = world_.filesystem->seek(files_[f], data_at, SeekWhence::hole);
      REQUIRE(hole);
      REQUIRE(hole.value() > data_at);
      at = hole.value();
    }
    const auto past = world_.filesystem->seek(files_[f], content.size(), SeekWhence::hole);
    REQUIRE(!past);
    REQUIRE(past.error() == Errc::no_such_offset);
  }

  void check_all() {
    for (size_t f = 0; f < files_.size(); ++f) {
      REQUIRE(world_.size_of(files_[f]) == contents_[f].size());
      REQUIRE(world_.read(files_[f], 0, contents_[f].size() + 10) == contents_[f]);
    }
    world_.check_extents(files_);
  }

  TestFiles world_;
  std::mt19937_64 random_;
  const uint64_t max_bytes_;
  std::vector<InodeNumber> files_;
  std::vector<Content> contents_;
};

}  // namespace

TEST_CASE("random operations on small files") {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    INFO("seed " << seed);
    Model(seed, 9000, {}).run(400);
  }
}

TEST_CASE("random operations on files of some hundred blocks") {
  for (uint64_t seed = 10; seed <= 12; ++seed) {
    INFO("seed " << seed);
    Model(seed, 600'000, {}).run(300);
  }
}

TEST_CASE("random operations on duplicated data") {
  TestFiles::Options options;
  options.device_bytes = 128 << 20;
  options.data_profile = alloc::Profile::dup;
  Model(20, 200'000, options).run(200);
}
