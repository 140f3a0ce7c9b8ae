// SPDX-License-Identifier: MIT
// The inside of the FUSE server: what the files of operations share. Only this folder includes
// libfuse, and only here does an error become an errno. README.md of this folder says which file
// does what and where replies come from.
//
// What the kernel caches. All changes of the volume come through this mount, so the kernel may
// cache names and attributes for a year, except attributes of files that are written while space is
// low (low_space.h). With the writeback cache the kernel owns size and times of regular files:
// cached writes arrive late, with times kept (WriteFlags::keep_times), and the kernel sends the
// times itself.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <functional>
#include <new>
#include <span>
#include <string_view>

#include "fs/filesystem.h"
#include "fs/fuse/deferred_replies.h"
#include "fs/fuse/kernel_cache.h"
#include "fs/fuse/low_space.h"
#include "fs/fuse/readdirplus.h"
#include "fs/fuse/wire.h"
#include "fs/fuse/write_opens.h"
#include "fs/mount/control.h"

namespace moltfs::fs::fuse {

inline constexpr double kCacheSeconds = 365.0 * 86400;

struct RawRequest;
/// Operations that fuse_lowlevel_ops lacks (raw.h).
struct RawOperations {
  void (*tmpfile)(const RawRequest&) = nullptr;
  void (*statx)(const RawRequest&) = nullptr;
};

/// What every operation needs; the user data of the session.
struct FuseContext {
  FuseContext(Mount& mount, const Control::Options& control_options);

  Filesystem& filesystem;
  alloc::Volume& volume;
  Control control;
  WriteOpens write_opens;
  ReaddirplusHeuristic readdirplus;
  SessionCache kernel_cache;
  LowSpace low_space;
  DeferredReplies deferred;
  fuse_lowlevel_ops file_operations{}, control_operations{};
  RawOperations raw_file_operations, raw_control_operations;
  std::atomic<bool> setxattr_is_extended{false};  ///< agreed in FUSE_INIT
  std::atomic<bool> initialized{false};           ///< FUSE_INIT has been answered

  /// For how long the kernel may cache the attributes in the reply that follows.
  double attribute_seconds(fuse_ino_t ino) {
    return low_space.attributes_may_be_cached(ino) ? kCacheSeconds : 0;
  }
};

/// The handle of an open file: its number as Filesystem::OpenFile, so that each one is told of
/// writes that failed later, and whether it was opened for writing. `flags`: those of open(2).
inline uint64_t new_handle(FuseContext& context, int flags) {
  return context.volume.write_failures().opened() << 1 | (opens_for_writing(flags) ? 1 : 0);
}
inline bool is_writer(uint64_t handle) {
  return (handle & 1) != 0;
}
inline Filesystem::OpenFile open_file_of(uint64_t handle) {
  return handle >> 1;
}

inline FuseContext& fuse_context_of(fuse_req_t req) {
  return *static_cast<FuseContext*>(fuse_req_userdata(req));
}
inline Filesystem& filesystem_of(fuse_req_t req) {
  return fuse_context_of(req).filesystem;
}
Caller caller_of(fuse_req_t req);
CallingProcess calling_process_of(fuse_req_t req);
/// True if the file is set-gid without being executable by its group, and the caller is not in that
/// group. Then whatever clears set-id bits clears this one, too.
bool is_outside_group(fuse_req_t req, fuse_ino_t ino);

// ---- Each file of operations puts its functions into the table.
void add_name_operations(fuse_lowlevel_ops& table);
void add_directory_operations(fuse_lowlevel_ops& table);
void add_attribute_operations(fuse_lowlevel_ops& table);
void add_xattr_operations(fuse_lowlevel_ops& table);
void add_content_operations(fuse_lowlevel_ops& table);
void add_ioctl_operations(fuse_lowlevel_ops& table);
void add_raw_operations(RawOperations& table);
void add_control_operations(fuse_lowlevel_ops& table, RawOperations& raw_table);

// ---- operations.cc decides which of the two tables a request goes to.
/// For libfuse.
fuse_lowlevel_ops routed_operations();
const RawOperations& raw_operations_of(const FuseContext& context, fuse_ino_t ino);

/// The inode of MNT/.moltfs. Its files follow, up to kFirstFreeInode.
inline constexpr fuse_ino_t kControlDirectoryInode = 2;

// ---- Translation.
struct stat to_stat(const Attributes& attributes);
fuse_entry_param to_entry(FuseContext& context, const Attributes& attributes);

// ---- Replies.
inline void reply_error(fuse_req_t req, const Error& error) {
  fuse_reply_err(req, error.to_errno());
}
inline void reply_done(fuse_req_t req, const Result<void>& result) {
  fuse_reply_err(req, result ? 0 : result.error().to_errno());
}
/// For operations marked (entry): drops the reference if the kernel does not take the reply.
void reply_entry(fuse_req_t req, const Result<Attributes>& result);
void reply_attributes(fuse_req_t req, const Result<Attributes>& result);

/// Runs `job`, which replies to `req`, on the deferred thread. While shutting down,
/// replies ENOTCONN.
void defer(fuse_req_t req, DeferredReplies::Job job);

/// The request being handled on this thread, as the kernel sent it. libfuse decodes requests and
/// passes on only some fields. The others (write_flags, read_flags, FATTR_KILL_SUIDGID, how many
/// bytes came with an ioctl) are decoded a second time, from here, by argument_of() (wire.h).
std::span<const std::byte> current_request();
/// The request being handled on this thread does not count as load (fs/mount/request_load.h):
/// asking about a replace, or waiting for its start, does not slow it down.
void leave_out_of_load();

/// Whether the request being handled on this thread has its reply, or was given to another thread.
bool is_replied();
void set_replied(bool replied);

/// Runs `operation`, which replies to a request. If it runs out of memory before it has replied,
/// calls `reply_error(ENOMEM)`.
template <class Operation, class ReplyError>
void answer_without_memory(const Operation& operation, const ReplyError& reply_error) {
  set_replied(false);
  try {
    operation();
  } catch (const std::bad_alloc&) {
    if (!is_replied()) reply_error(ENOMEM);
  }
}

}  // namespace moltfs::fs::fuse
