// SPDX-License-Identifier: MIT
// The fs payload of the superblock: encoding and checking.
#include "fs/tree/format.h"

#include <fmt/format.h>

#include "alloc/base/codec.h"

namespace moltfs::fs {
namespace {

constexpr uint8_t kPayloadVersion = 1;

Result<void> check_root(const TreeRoot& root, size_t index) {
  const char* what = nullptr;
  if (root.level >= kMaxTreeHeight) what = "level";
  if (root.node.birth.value == 0) what = "birth";
  if (root.node.address.value % kBlockSize != 0) what = "address";
  if (what == nullptr) return ok();
  return Error(Errc::bad_item, fmt::format("the superblock's root of tree {} has an impossible {}",
                                           index + 1, what));
}

}  // namespace

std::vector<std::byte> encode(const FsPayload& payload) {
  ByteWriter out;
  out.u8(kPayloadVersion);
  for (const TreeRoot& root : payload.roots) {
    out.u8(root.level);
    out.u64(root.node.address.value);
    out.u64(root.node.birth.value);
    out.u64(root.node.checksum);
  }
  out.u64(payload.counters.next_inode);
  out.u64(payload.counters.inode_count);
  out.u64(payload.counters.hash_seed);
  return out.take();
}

Result<void> check_counters(const FsCounters& counters) {
  if (counters.next_inode > kInodeNumbersEnd) {
    return Error(Errc::bad_item,
                 fmt::format("the next inode number is {}, beyond the last one that is possible",
                             counters.next_inode));
  }
  if (counters.inode_count > kInodeNumbersEnd) {
    return Error(Errc::bad_item, fmt::format("{} inodes are impossible", counters.inode_count));
  }
  return ok();
}

Result<FsPayload> decode_fs_payload(ConstBytes bytes) {
  ByteReader in(bytes);
  FsPayload payload;
  TRY(auto version, in.u8());
  if (version != kPayloadVersion) {
    return Error(Errc::unsupported_feature,
                 fmt::format("version {} of the filesystem's payload is unknown", version));
  }
  for (size_t i = 0; i < kTreeCount; ++i) {
    TreeRoot& root = payload.roots[i];
    TRY(root.level, in.u8());
    TRY(root.node.address.value, in.u64());
    TRY(root.node.birth.value, in.u64());
    TRY(root.node.checksum, in.u64());
    TRY(check_root(root, i));
  }
  TRY(payload.counters.next_inode, in.u64());
  TRY(payload.counters.inode_count, in.u64());
  TRY(payload.counters.hash_seed, in.u64());
  if (!in.at_end()) {
    return Error(Errc::bad_item,
                 fmt::format("{} bytes too many in the filesystem's payload", in.left()));
  }
  TRY(check_counters(payload.counters));
  return payload;
}

}  // namespace moltfs::fs
