// SPDX-License-Identifier: MIT
// The FUSE protocol beyond what libfuse offers: newer requests, fields that it drops, and the place
// of a write's payload. Source: include/uapi/linux/fuse.h of Linux 6.18 (protocol 7.45).
#pragma once

#include <linux/fuse.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

namespace moltfs::fs::fuse {

/// The longest write that the kernel sends.
inline constexpr uint32_t kMaxWriteBytes = 1 << 20;

/// Requests that the installed headers may lack.
inline constexpr uint32_t kOpSyncfs = 50;
inline constexpr uint32_t kOpTmpfile = 51;
inline constexpr uint32_t kOpStatx = 52;

/// Flags of FUSE_INIT, FUSE_WRITE and FUSE_SETATTR that libfuse before 3.17 does not know.
inline constexpr uint32_t kInitHandleKillprivV2 = 1u << 28;
inline constexpr uint32_t kWriteKillSuidgid = 1u << 2;
inline constexpr uint32_t kSetattrKillSuidgid = 1u << 11;

/// If FUSE_INIT agrees on this flag, FUSE_SETXATTR has eight more bytes before the name: flags of
/// its own. libfuse before 3.17 does not know them.
inline constexpr uint32_t kInitSetxattrExt = 1u << 29;
inline constexpr uint32_t kSetxattrAclKillSgid = 1u << 0;
inline constexpr size_t kSetxattrExtensionBytes = 8;
/// Where without_extension() (raw.h) puts that flag: into an unused bit of the flags
/// of setxattr(2).
inline constexpr uint32_t kSetxattrKillSgid = 1u << 30;
struct SetxattrIn {
  uint32_t size, flags, setxattr_flags, padding;
};

/// What comes before the payload of FUSE_WRITE in a request.
inline constexpr size_t kWriteHeaderBytes = sizeof(fuse_in_header) + sizeof(fuse_write_in);
static_assert(kWriteHeaderBytes == 80);

/// The structure that follows the request's header. Nothing: the request is too short.
template <class T>
std::optional<T> argument_of(std::span<const std::byte> request) {
  if (request.size() < sizeof(fuse_in_header) + sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, request.data() + sizeof(fuse_in_header), sizeof value);
  return value;
}

struct StatxIn {
  uint32_t getattr_flags, reserved;
  uint64_t fh;
  uint32_t sx_flags, sx_mask;
};
struct StatxTime {
  int64_t seconds;
  uint32_t nanoseconds;
  int32_t reserved;
};
struct StatxOut {
  uint64_t valid_seconds;
  uint32_t valid_nanoseconds, flags;
  uint64_t spare[2];
  uint32_t mask, block_size;
  uint64_t attributes;
  uint32_t links, uid, gid;
  uint16_t mode, spare0;
  uint64_t ino, size, blocks, attributes_mask;
  StatxTime atime, btime, ctime, mtime;
  uint32_t rdev_major, rdev_minor, dev_major, dev_minor;
  uint64_t spare2[14];
};
static_assert(sizeof(StatxIn) == 24);
static_assert(sizeof(StatxOut) == 288 && offsetof(StatxOut, mask) == 32);

}  // namespace moltfs::fs::fuse
