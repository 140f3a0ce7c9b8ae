// SPDX-License-Identifier: MIT
// The buffer pool, checksums, uuids and sizes.
#include "alloc/base/bytes.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <limits>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

// XXH3 picks the widest vector instructions at run time where the library can.
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

#include "alloc/base/sanitizer.h"

namespace moltfs {
namespace {

/// Not with AddressSanitizer, so that it sees a use after free.
constexpr bool kPooled = !kAddressSanitizer;
/// Sizes of pooled buffers: the powers of two from a block to 1 MiB, and 1 MiB with a header block.
constexpr size_t kClassSizes[] = {4096,   8192,   16384,  32768,   65536,
                                  131072, 262144, 524288, 1048576, 1052672};
constexpr size_t kClassCount = std::size(kClassSizes);
/// No class keeps more than this many unused bytes in memory.
constexpr size_t kIdleBytesMax = size_t{32} << 20;
/// Small buffers are carved from lots of this size: malloc would take a page more for each, to
/// align it, which is a quarter for a node of a tree.
constexpr size_t kLotBytes = size_t{1} << 20;

/// Unused buffers of one size. Address space is never given back, memory is.
struct SizeClass {
  std::mutex mutex;
  std::vector<std::byte*> warm, cold;  // guarded by mutex; the kernel has the memory of cold ones
  size_t all = 0;                      // guarded by mutex: used ones, too
};

/// Never destroyed: buffers may outlive everything.
std::array<SizeClass, kClassCount>& pool() {
  static auto& classes = *new std::array<SizeClass, kClassCount>;
  return classes;
}

/// kClassCount for sizes that are not pooled.
size_t class_of(size_t size) {
  return static_cast<size_t>(std::lower_bound(kClassSizes, std::end(kClassSizes), size) -
                             kClassSizes);
}

/// Memory that spans whole huge pages asks for them: a request to a device pins each page it has.
constexpr size_t kHugePage = size_t{2} << 20;

std::byte* allocate_from_system(size_t size) {
  const size_t alignment = size >= kHugePage ? kHugePage : kBlockSize;
  const size_t rounded = round_up(size, alignment);
  void* memory = std::aligned_alloc(alignment, rounded);
  if (memory == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);
#endif
  return static_cast<std::byte*>(memory);
}

/// Makes cold buffers; room for noting each as unused, too, so that a release cannot fail.
void add_lot(SizeClass& sizes, size_t size) {
  const size_t count = std::max(kLotBytes / size, size_t{1});
  sizes.warm.reserve(kIdleBytesMax / size);
  const size_t all = sizes.all + count;
  if (sizes.cold.capacity() < all) sizes.cold.reserve(std::max(all, 2 * sizes.cold.capacity()));
  void* const lot =
      mmap(nullptr, count * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (lot == MAP_FAILED) throw std::bad_alloc();
  sizes.all = all;
  for (size_t i = count; i-- > 0;) sizes.cold.push_back(static_cast<std::byte*>(lot) + i * size);
}

std::byte* allocate(size_t size) {
  const size_t index = class_of(size);
  if (!kPooled || index == kClassCount) return allocate_from_system(size);
  SizeClass& sizes = pool()[index];
  std::lock_guard lock(sizes.mutex);
  if (sizes.warm.empty() && sizes.cold.empty()) add_lot(sizes, kClassSizes[index]);
  auto& unused = sizes.warm.empty() ? sizes.cold : sizes.warm;
  std::byte* const taken = unused.back();
  unused.pop_back();
  return taken;
}

void release(std::byte* data, size_t size) {
  const size_t index = class_of(size);
  if (!kPooled || index == kClassCount) return std::free(data);
  SizeClass& sizes = pool()[index];
  const size_t class_size = kClassSizes[index];
  {
    std::lock_guard lock(sizes.mutex);
    if ((sizes.warm.size() + 1) * class_size <= kIdleBytesMax) return sizes.warm.push_back(data);
  }
  madvise(data, class_size, MADV_DONTNEED);
  std::lock_guard lock(sizes.mutex);
  sizes.cold.push_back(data);
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

constexpr std::string_view kUnits = "BKMGTPE";

/// "" or "B": 0, "K", "KB", "KiB": 10, and so on in either case; nothing for another suffix.
std::optional<unsigned> shift_of_suffix(std::string_view suffix) {
  if (suffix.empty()) return 0;
  const auto upper = [](char c) { return static_cast<char>(std::toupper(c)); };
  const size_t unit = kUnits.find(upper(suffix[0]));
  if (unit == std::string_view::npos) return std::nullopt;
  std::string rest(suffix.substr(1));
  std::transform(rest.begin(), rest.end(), rest.begin(), upper);
  const bool known = rest.empty() || (unit > 0 && (rest == "B" || rest == "IB"));
  if (!known) return std::nullopt;
  return static_cast<unsigned>(unit * 10);
}

}  // namespace

AlignedBuffer::AlignedBuffer(size_t size)
    : data_(size == 0 ? nullptr : allocate(size)), size_(size) {}

AlignedBuffer::AlignedBuffer(AlignedBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

AlignedBuffer& AlignedBuffer::operator=(AlignedBuffer&& other) noexcept {
  AlignedBuffer taken(std::move(other));
  std::swap(data_, taken.data_);
  std::swap(size_, taken.size_);
  return *this;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ != nullptr) release(data_, size_);
}

void AlignedBuffer::fill_zero() {
  if (data_ != nullptr) std::memset(data_, 0, size_);
}

uint64_t checksum_of(ConstBytes bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

uint64_t hash_of(std::string_view text, uint64_t seed) {
  return XXH3_64bits_withSeed(text.data(), text.size(), seed);
}

std::string Uuid::to_string() const {
  std::string text;
  text.reserve(36);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += fmt::format("{:02x}", bytes[i]);
  }
  return text;
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  Uuid uuid;
  size_t at = 0;
  for (size_t i = 0; i < uuid.bytes.size(); ++i) {
    if (at == 8 || at == 13 || at == 18 || at == 23) {
      if (text[at++] != '-') return std::nullopt;
    }
    const int high = hex_digit(text[at++]);
    const int low = hex_digit(text[at++]);
    if (high < 0 || low < 0) return std::nullopt;
    uuid.bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return uuid;
}

Uuid Uuid::generate(Runtime& runtime) {
  Uuid uuid;
  for (size_t i = 0; i < uuid.bytes.size(); i += 8) {
    const uint64_t bits = runtime.random();
    for (size_t j = 0; j < 8; ++j) uuid.bytes[i + j] = static_cast<uint8_t>(bits >> (8 * j));
  }
  uuid.bytes[6] = static_cast<uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);  // version 4: random
  uuid.bytes[8] = static_cast<uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);  // variant of RFC 4122
  return uuid;
}

std::string human_size(uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  double size = static_cast<double>(bytes);
  size_t unit = 0;
  // 1023.95 would be written as 1024.0.
  while (size >= 1023.95 && unit + 1 < kUnits.size()) {
    size /= 1024;
    ++unit;
  }
  return fmt::format("{:.1f} {}iB", size, kUnits[unit]);
}

std::optional<uint64_t> parse_size(std::string_view text) {
  using Wide = unsigned __int128;
  constexpr Wide kMax = std::numeric_limits<uint64_t>::max();
  size_t at = 0;
  Wide whole = 0;
  while (at < text.size() && is_digit(text[at])) {
    whole = whole * 10 + static_cast<unsigned>(text[at++] - '0');
    if (whole > kMax) return std::nullopt;
  }
  if (at == 0) return std::nullopt;

  Wide fraction = 0, scale = 1;  // the digits after the point are fraction / scale
  const bool has_point = at < text.size() && text[at] == '.';
  if (has_point) {
    const size_t first = ++at;
    for (; at < text.size() && is_digit(text[at]); ++at) {
      if (at - first >= 12) continue;  // below a byte for every unit that matters
      fraction = fraction * 10 + static_cast<unsigned>(text[at] - '0');
      scale *= 10;
    }
    if (at == first) return std::nullopt;
  }

  const auto shift = shift_of_suffix(text.substr(at));
  if (!shift || (has_point && *shift == 0)) return std::nullopt;
  const Wide size = (whole << *shift) + (fraction << *shift) / scale;
  if (size > kMax) return std::nullopt;
  return static_cast<uint64_t>(size);
}

}  // namespace moltfs
