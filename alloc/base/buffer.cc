// SPDX-License-Identifier: MIT
// The pool of buffers.
#include "alloc/base/buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

#include "alloc/base/sanitizer.h"

namespace moltfs {
namespace {

/// With AddressSanitizer there is no pool, so that it sees a use after free.
constexpr bool kPooled = !kAddressSanitizer;
/// Sizes of pooled buffers: powers of two from one block to 1 MiB, and 1 MiB plus a header block.
constexpr size_t kClassSizes[] = {4096,   8192,   16384,  32768,   65536,
                                  131072, 262144, 524288, 1048576, 1052672};
constexpr size_t kClassCount = std::size(kClassSizes);
/// No class keeps more than this many unused bytes in memory.
constexpr size_t kIdleBytesMax = size_t{32} << 20;
/// Buffers are cut from lots of this size. malloc would need one page more for each buffer to align
/// it, which is a quarter more for a tree node.
constexpr size_t kLotBytes = size_t{1} << 20;

/// Unused buffers of one size. Memory is given back to the kernel, address space is not.
struct SizeClass {
  std::mutex mutex;
  // Guarded by mutex:
  std::vector<std::byte*> warm;  // with memory
  std::vector<std::byte*> cold;  // without: the kernel gives them zeroed memory when they are used
  size_t all = 0;                // buffers of this size, used and unused
};

/// Never destroyed: buffers may live longer than other static objects.
std::array<SizeClass, kClassCount>& pool() {
  static auto& classes = *new std::array<SizeClass, kClassCount>;
  return classes;
}

/// kClassCount for sizes that are not pooled.
size_t class_of(size_t size) {
  return static_cast<size_t>(std::lower_bound(kClassSizes, std::end(kClassSizes), size) -
                             kClassSizes);
}

/// Memory of this size or more asks for huge pages: a request to a device must pin every page, and
/// huge pages are fewer.
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

/// Makes cold buffers. Also reserves room in both lists, so that release() cannot fail.
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

}  // namespace moltfs
