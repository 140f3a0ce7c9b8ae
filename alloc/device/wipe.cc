// SPDX-License-Identifier: MIT
// Zeros over the known places, then libblkid for the rest.
#include "alloc/device/wipe.h"

#include <algorithm>

#include "alloc/device/file_device.h"
#include "alloc/device/signature.h"

namespace moltfs::alloc {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kHeadBytes = 4 * kMiB;
constexpr uint64_t kTailBytes = 1 * kMiB;
/// The last place of the second LUKS2 header, and the copies of a btrfs superblock.
constexpr uint64_t kFarCopies[] = {4 * kMiB, 64 * kMiB, uint64_t{256} << 30};

/// Zeros from `first` to `end` or to the end of the device.
Result<void> zero(IoEngine& engine, Device& device, uint64_t first, uint64_t end) {
  AlignedBuffer zeros(kMiB);
  zeros.fill_zero();
  end = std::min(end, round_down(device.size_bytes(), kBlockSize));
  while (first < end) {
    const size_t length = std::min<uint64_t>(zeros.size(), end - first);
    TRY(engine.write(device, first, zeros.span().first(length)));
    first += length;
  }
  return ok();
}

}  // namespace

Result<void> wipe_signatures(IoEngine& engine, Device& device) {
  const uint64_t size = round_down(device.size_bytes(), kBlockSize);
  TRY(zero(engine, device, 0, kHeadBytes));
  for (const uint64_t at : kFarCopies) {
    TRY(zero(engine, device, at, at + kBlockSize));
  }
  TRY(zero(engine, device, size - std::min(size, kTailBytes), size));
  const auto* const file = dynamic_cast<const FileDevice*>(&device);
  return file == nullptr ? ok() : erase_foreign_signatures(file->fd(), file->path());
}

}  // namespace moltfs::alloc
