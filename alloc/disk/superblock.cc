// SPDX-License-Identifier: MIT
// Reading, writing, verifying and wiping the superblocks of one device.
#include "alloc/disk/superblock.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "alloc/disk/format.h"

namespace moltfs::alloc {

namespace {

/// Reads twice if the first attempt fails: after a power cut copy 1 may be one generation older
/// than copy 0, so it must not count because of a transient error of copy 0.
Result<Superblock> read_copy(IoEngine& engine, Device& device, unsigned copy) {
  auto superblock = read_superblock_copy(engine, device, copy);
  if (superblock || superblock.error() == Errc::unsupported_feature) return superblock;
  return read_superblock_copy(engine, device, copy);
}

bool same_identity(const Superblock& a, const Superblock& b) {
  return a.volume == b.volume && a.device == b.device;
}

/// Which of two errors says more: a copy that is too new, then a damaged one, then one that cannot
/// be read, then none.
int weight(const Error& error) {
  if (error == Errc::not_found) return 0;
  if (error == Errc::bad_superblock) return 2;
  if (error == Errc::unsupported_feature) return 3;
  return 1;
}

Result<void> verify_copy(IoEngine& engine, Device& device, const Superblock& superblock,
                         unsigned copy) {
  TRY(auto expected, encode(superblock, copy));
  AlignedBuffer found(expected.size());
  TRY(engine.read(device, kSuperblockOffsets[copy], found.span()));
  if (std::memcmp(found.data(), expected.data(), expected.size()) == 0) return ok();
  return Error(
      Errc::checksum_mismatch,
      fmt::format("{}: superblock copy {} does not read back as written", device.path(), copy));
}

}  // namespace

Result<Superblock> read_superblock_copy(IoEngine& engine, Device& device, unsigned copy) {
  // Most superblocks have one block. Longer ones are read in a second step.
  AlignedBuffer buffer(kSuperblockMaxBytes);
  TRY(engine.read(device, kSuperblockOffsets[copy], buffer.span().first(kBlockSize)));
  const uint64_t length = encoded_length(buffer.span());
  if (length > kBlockSize) {
    TRY(engine.read(device, kSuperblockOffsets[copy] + kBlockSize,
                    buffer.span().subspan(kBlockSize, length - kBlockSize)));
  }
  return decode_superblock(buffer.span().first(length), copy);
}

Result<Superblock> read_superblock(IoEngine& engine, Device& device) {
  // The device is too small to hold both copies.
  if (device.size_bytes() < kSuperblockOffsets[1] + kSuperblockMaxBytes) {
    return Error(Errc::not_found, fmt::format("{}: no moltfs here", device.path()));
  }
  auto first = read_copy(engine, device, 0);
  auto second = read_copy(engine, device, 1);
  if (first && second) {
    const bool take_second = same_identity(first.value(), second.value()) &&
                             second.value().generation > first.value().generation;
    return take_second ? std::move(second) : std::move(first);
  }
  if (first) return first;
  if (second) return second;
  const Error& worst =
      weight(first.error()) >= weight(second.error()) ? first.error() : second.error();
  return Error(worst.code, fmt::format("{}: {}", device.path(), worst.message()));
}

Result<void> write_superblock(IoEngine& engine, Device& device, const Superblock& superblock) {
  TRY(auto first, encode(superblock, 0));
  TRY(auto second, encode(superblock, 1));
  TRY(engine.write(device, kSuperblockOffsets[0], first.span()));
  TRY(engine.flush(device));
  return engine.write(device, kSuperblockOffsets[1], second.span());
}

Result<void> verify_superblock(IoEngine& engine, Device& device, const Superblock& superblock) {
  TRY(engine.flush(device));
  TRY(verify_copy(engine, device, superblock, 0));
  return verify_copy(engine, device, superblock, 1);
}

Result<void> wipe_superblocks(IoEngine& engine, Device& device) {
  AlignedBuffer zeros(kSuperblockMaxBytes);
  zeros.fill_zero();
  for (uint64_t offset : {kSuperblockOffsets[1], kSuperblockOffsets[0]}) {
    TRY(engine.write(device, offset, zeros.span()));
    TRY(engine.flush(device));
  }
  return ok();
}

}  // namespace moltfs::alloc
