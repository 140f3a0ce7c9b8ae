// SPDX-License-Identifier: MIT
// The FUSE front end, inside: what the files of operations share. Only this folder includes
// libfuse, and only here does an error become an errno.
//
// Life of a request: a receive thread (receive.h) reads it into a page-aligned buffer; requests
// that libfuse does not know are answered by raw.cc; libfuse decodes the others and calls the table
// of operations (operations.cc), which leads to the functions of names.cc, directory.cc,
// attributes.cc, xattr.cc, content.cc, ioctl.cc or, for the inodes of MNT/.moltfs,
// control_files.cc. They do all their work on the receive thread and reply before they return.
//
// What the kernel caches. All changes of the volume come through this mount, so names and
// attributes are given to the kernel for a year, but for files that are written while there is
// little space (space_guard.h). With the writeback cache the kernel owns size and times of regular
// files: cached writes arrive late, with times kept (WriteFlags::keep_times), and the kernel sends
// the times itself.
#pragma once

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "fs/filesystem.h"
#include "fs/fuse/readdirplus.h"
#include "fs/fuse/write_opens.h"
#include "fs/mount/control.h"

namespace moltfs::fs::fuse {

inline constexpr double kCacheSeconds = 365.0 * 86400;
inline constexpr uint32_t kMaxWriteBytes = 1 << 20;
/// What a handle of a file says.
inline constexpr uint64_t kReader = 0, kWriter = 1;

class DeferredReplies;
class LowSpace;

/// What every operation needs; the user data of the session.
struct FuseContext {
  FuseContext(Mount& mount, uint32_t owner);

  Filesystem& filesystem;
  Control control;
  WriteOpens writers;
  ReaddirplusHeuristic listing_habit;
  DeferredReplies* deferred = nullptr;  ///< set before serving
  LowSpace* guard = nullptr;            ///< likewise
  fuse_lowlevel_ops file_operations{};
  fuse_lowlevel_ops control_operations{};
  fuse_session* session = nullptr;  ///< set before serving
  /// What the kernel has cached of the inode's attributes is no longer true.
  void forget_attributes(fuse_ino_t ino) const;
  /// What the kernel has cached of the inode's blocks is no longer true. (It asks for the rest of
  /// the attributes no more often.)
  void forget_blocks(fuse_ino_t ino) const;
  std::atomic<bool> setxattr_is_extended{false};  ///< agreed in FUSE_INIT
  /// Set when the answer to FUSE_INIT has gone to the kernel.
  std::atomic<bool> initialized{false};
};

inline FuseContext& fuse_context_of(fuse_req_t req) {
  return *static_cast<FuseContext*>(fuse_req_userdata(req));
}
inline Filesystem& filesystem_of(fuse_req_t req) {
  return fuse_context_of(req).filesystem;
}
Caller caller_of(fuse_req_t req);
/// True if the file is set-gid without being executable by its group, and the caller is not in that
/// group: then what clears set-id bits clears this one, too.
bool is_outside_group(fuse_req_t req, fuse_ino_t ino);

// ---- Each file of operations puts its functions into the table.
void add_session_operations(fuse_lowlevel_ops& table);
void add_name_operations(fuse_lowlevel_ops& table);
void add_directory_operations(fuse_lowlevel_ops& table);
void add_attribute_operations(fuse_lowlevel_ops& table);
void add_xattr_operations(fuse_lowlevel_ops& table);
void add_content_operations(fuse_lowlevel_ops& table);
void add_ioctl_operations(fuse_lowlevel_ops& table);
void add_control_operations(fuse_lowlevel_ops& table);
/// What libfuse is given: goes to one of the two tables by the inode.
fuse_lowlevel_ops routed_operations(const FuseContext& context);

// ---- The control directory: inode 2, its files from 3 on.
inline constexpr fuse_ino_t kControlDirectoryInode = 2;
inline bool is_control_inode(fuse_ino_t ino) {
  return ino != FUSE_ROOT_ID && ino < kFirstFreeInode.value;
}
/// True for MNT/.moltfs and all in it: names that users can neither make nor remove.
inline bool is_control_name(fuse_ino_t parent, std::string_view name) {
  return is_control_inode(parent) || (parent == FUSE_ROOT_ID && name == kControlDirectory);
}
void control_lookup(fuse_req_t req, fuse_ino_t parent, std::string_view name);

// ---- Translation.
struct stat to_stat(const Attributes& attributes);
fuse_entry_param to_entry(const FuseContext& context, const Attributes& attributes);

// ---- Replies.
inline void reply_error(fuse_req_t req, const Error& error) {
  fuse_reply_err(req, error.to_errno());
}
inline void reply_done(fuse_req_t req, const Result<void>& result) {
  fuse_reply_err(req, result ? 0 : result.error().to_errno());
}
/// For operations marked (entry): gives the reference back if the kernel does not take the reply.
void reply_entry(fuse_req_t req, const Result<Attributes>& result);
void reply_attributes(fuse_req_t req, const Result<Attributes>& result);

/// The request being handled on this thread, for fields that libfuse does not pass on.
std::span<const std::byte> current_request();
/// The request being handled on this thread is no work of a program's (fs/mount/busy_time.h): whoever asks
/// about a replace, or waits for it to begin, does not hold it up.
void leave_out_of_serving();

}  // namespace moltfs::fs::fuse
