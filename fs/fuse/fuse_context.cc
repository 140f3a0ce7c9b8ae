// SPDX-License-Identifier: MIT
// Translation between the structures of libfuse and of the filesystem; replies.
#include "fs/fuse/fuse_context.h"

#include <sys/sysmacros.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

namespace moltfs::fs::fuse {
namespace {

timespec to_timespec(const Time& time) {
  timespec t{};
  t.tv_sec = static_cast<time_t>(time.seconds);
  t.tv_nsec = time.nanoseconds;
  return t;
}

/// The supplementary groups of the caller; nothing if they cannot be found out.
std::optional<std::vector<gid_t>> groups_of(fuse_req_t req) {
  // libfuse reads /proc, which the sandbox does not allow.
  if (Broker* const broker = fuse_context_of(req).control.broker()) {
    const auto asked = broker->groups_of(calling_process_of(req));
    return asked ? std::optional(asked.value()) : std::nullopt;
  }
  std::vector<gid_t> groups(64);
  int count = fuse_req_getgroups(req, static_cast<int>(groups.size()), groups.data());
  if (count > static_cast<int>(groups.size())) {
    groups.resize(static_cast<size_t>(count));
    count = fuse_req_getgroups(req, count, groups.data());
  }
  if (count < 0) return std::nullopt;
  groups.resize(std::min(groups.size(), static_cast<size_t>(count)));
  return groups;
}

}  // namespace

FuseContext::FuseContext(Mount& mount, const Control::Options& control_options)
    : filesystem(mount.filesystem()),
      volume(mount.volume()),
      control(mount, control_options),
      low_space(filesystem, write_opens, kernel_cache),
      deferred(filesystem.runtime()) {
  add_name_operations(file_operations);
  add_directory_operations(file_operations);
  add_attribute_operations(file_operations);
  add_xattr_operations(file_operations);
  add_content_operations(file_operations);
  add_ioctl_operations(file_operations);
  add_raw_operations(raw_file_operations);
  add_control_operations(control_operations, raw_control_operations);
}

Caller caller_of(fuse_req_t req) {
  const fuse_ctx* context = fuse_req_ctx(req);
  return {context->uid, context->gid, static_cast<uint32_t>(context->umask)};
}

CallingProcess calling_process_of(fuse_req_t req) {
  const fuse_ctx* context = fuse_req_ctx(req);
  return {context->uid, context->pid};
}

bool is_outside_group(fuse_req_t req, fuse_ino_t ino) {
  const auto attributes = filesystem_of(req).attributes(InodeNumber(ino));
  if (!attributes) return false;
  const Attributes& a = attributes.value();
  const fuse_ctx* context = fuse_req_ctx(req);
  if ((a.mode & (S_ISGID | S_IXGRP)) != S_ISGID || context->gid == a.gid) return false;
  const auto groups = groups_of(req);
  // A process that we cannot see may not keep the bit.
  return !groups || std::find(groups->begin(), groups->end(), a.gid) == groups->end();
}

struct stat to_stat(const Attributes& a) {
  struct stat s {};
  s.st_ino = a.ino.value;
  s.st_mode = a.mode;
  s.st_nlink = a.links;
  s.st_uid = a.uid;
  s.st_gid = a.gid;
  s.st_rdev = makedev(static_cast<unsigned>(a.device >> 32), static_cast<unsigned>(a.device));
  s.st_size = static_cast<off_t>(a.size);
  s.st_blksize = kBlockSize;
  s.st_blocks = static_cast<blkcnt_t>(a.allocated_bytes / 512);
  // Content inside a tree node counts as blocks: tools believe that a file without blocks is empty.
  if (S_ISREG(a.mode) && a.allocated_bytes == 0 && a.size > 0 && a.size <= kMaxInlineBytes) {
    s.st_blocks = static_cast<blkcnt_t>(round_up(a.size, 512) / 512);
  }
  s.st_atim = to_timespec(a.atime);
  s.st_mtim = to_timespec(a.mtime);
  s.st_ctim = to_timespec(a.ctime);
  return s;
}

fuse_entry_param to_entry(FuseContext& context, const Attributes& attributes) {
  fuse_entry_param entry{};
  entry.ino = attributes.ino.value;
  entry.generation = attributes.generation;
  entry.attr = to_stat(attributes);
  entry.attr_timeout = context.attribute_seconds(entry.ino);
  entry.entry_timeout = kCacheSeconds;
  return entry;
}

void reply_entry(fuse_req_t req, const Result<Attributes>& result) {
  if (!result) return reply_error(req, result.error());
  Filesystem& filesystem = filesystem_of(req);
  const fuse_entry_param entry = to_entry(fuse_context_of(req), result.value());
  if (fuse_reply_entry(req, &entry) != 0) filesystem.forget(result.value().ino, 1);
}

void reply_attributes(fuse_req_t req, const Result<Attributes>& result) {
  if (!result) return reply_error(req, result.error());
  const struct stat s = to_stat(result.value());
  fuse_reply_attr(req, &s, fuse_context_of(req).attribute_seconds(s.st_ino));
}

void defer(fuse_req_t req, DeferredReplies::Job job) {
  auto guarded = [req, job = std::move(job)] {
    answer_without_memory(job, [req](int error) { fuse_reply_err(req, error); });
  };
  if (fuse_context_of(req).deferred.post(std::move(guarded))) {
    set_replied(true);
  } else {
    fuse_reply_err(req, ENOTCONN);
  }
}

}  // namespace moltfs::fs::fuse
