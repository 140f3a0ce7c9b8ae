// SPDX-License-Identifier: MIT
// MNT/.moltfs and its files, one for each entry of Control::endpoints(), all with direct I/O. A read
// from the start of a file makes a new answer; reads further on continue the same answer. A write
// is one whole command. With -o control=off they do not exist.
#include <fcntl.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#include "fs/fuse/fuse_context.h"
#include "fs/fuse/raw.h"

namespace moltfs::fs::fuse {
namespace {

constexpr fuse_ino_t kFirstFileInode = kControlDirectoryInode + 1;

/// An open control file.
struct Handle {
  std::mutex mutex;
  std::string answer;  // guarded by mutex
};

Handle* handle_of(const fuse_file_info* fi) {
  return reinterpret_cast<Handle*>(fi->fh);
}

const Control::Endpoint* endpoint_of(fuse_ino_t ino) {
  const auto& endpoints = Control::endpoints();
  if (ino < kFirstFileInode || ino - kFirstFileInode >= endpoints.size()) return nullptr;
  return &endpoints[ino - kFirstFileInode];
}

struct stat control_stat(const FuseContext& context, fuse_ino_t ino) {
  struct stat s {};
  s.st_ino = ino;
  s.st_uid = context.control.owner();
  s.st_blksize = kBlockSize;
  if (const auto* endpoint = endpoint_of(ino)) {
    const bool is_writable = endpoint->settable && context.control.level() == Control::Level::full;
    s.st_mode = S_IFREG | (is_writable ? 0600 : 0400);
    s.st_nlink = 1;
  } else {
    s.st_mode = S_IFDIR | 0500;
    s.st_nlink = 2;
  }
  return s;
}

fuse_entry_param control_entry(const FuseContext& context, fuse_ino_t ino) {
  fuse_entry_param entry{};
  entry.ino = ino;
  entry.attr = control_stat(context, ino);
  entry.attr_timeout = entry.entry_timeout = kCacheSeconds;
  return entry;
}

void control_forget(fuse_req_t req, fuse_ino_t, uint64_t) {
  fuse_reply_none(req);
}

/// MNT/.moltfs itself, and what is in it.
void control_lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  fuse_ino_t found = 0;
  if (parent == FUSE_ROOT_ID) {
    found = kControlDirectoryInode;
  } else if (std::string_view(name) == ".") {
    found = parent;
  } else if (const auto* endpoint = Control::find(name);
             endpoint != nullptr && parent == kControlDirectoryInode) {
    found = kFirstFileInode + static_cast<fuse_ino_t>(endpoint - Control::endpoints().data());
  }
  const FuseContext& context = fuse_context_of(req);
  if (found == 0 || context.control.level() == Control::Level::off) {
    return void(fuse_reply_err(req, ENOENT));
  }
  const fuse_entry_param entry = control_entry(context, found);
  fuse_reply_entry(req, &entry);
}

void control_getattr(fuse_req_t req, fuse_ino_t ino, fuse_file_info*) {
  const struct stat s = control_stat(fuse_context_of(req), ino);
  fuse_reply_attr(req, &s, kCacheSeconds);
}

void control_statx(const RawRequest& request) {
  request.reply_statx(control_stat(request.context, request.header.nodeid), nullptr, kCacheSeconds);
}

void control_ioctl(fuse_req_t req, fuse_ino_t, unsigned, void*, fuse_file_info*, unsigned,
                   const void*, size_t, size_t) {
  fuse_reply_err(req, ENOTTY);
}

/// `echo ... > file` truncates it first; that and new times are accepted without effect.
void control_setattr(fuse_req_t req, fuse_ino_t ino, struct stat*, int to_set, fuse_file_info* fi) {
  constexpr int kRefused = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID;
  if (to_set & kRefused) return void(fuse_reply_err(req, EPERM));
  control_getattr(req, ino, fi);
}

void control_opendir(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  fuse_reply_open(req, fi);
}

/// Entry `at` of the directory, counted from 0: ".", "..", then the endpoints.
std::pair<std::string, fuse_ino_t> entry_at(size_t at) {
  if (at == 0) return {".", kControlDirectoryInode};
  if (at == 1) return {"..", FUSE_ROOT_ID};
  return {std::string(Control::endpoints()[at - 2].name), kFirstFileInode + at - 2};
}

void control_list(fuse_req_t req, size_t size, off_t offset, bool plus) {
  const FuseContext& context = fuse_context_of(req);
  std::string listing(size, '\0');
  size_t used = 0;
  const size_t end = Control::endpoints().size() + 2;
  for (size_t at = offset < 0 ? end : static_cast<size_t>(offset); at < end; ++at) {
    const auto [name, ino] = entry_at(at);
    fuse_entry_param entry = control_entry(context, ino);
    if (at < 2) entry.ino = 0;  // a number and a type, no lookup
    const auto next = static_cast<off_t>(at + 1);
    char* to = listing.data() + used;
    const size_t bytes =
        plus ? fuse_add_direntry_plus(req, to, size - used, name.c_str(), &entry, next)
             : fuse_add_direntry(req, to, size - used, name.c_str(), &entry.attr, next);
    if (bytes > size - used) break;
    used += bytes;
  }
  fuse_reply_buf(req, listing.data(), used);
}

void control_readdir(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info*) {
  control_list(req, size, offset, false);
}

void control_readdirplus(fuse_req_t req, fuse_ino_t, size_t size, off_t offset, fuse_file_info*) {
  control_list(req, size, offset, true);
}

void control_releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info*) {
  fuse_reply_err(req, 0);
}

void control_fsync(fuse_req_t req, fuse_ino_t, int, fuse_file_info*) {
  fuse_reply_err(req, 0);
}

void control_open(fuse_req_t req, fuse_ino_t ino, fuse_file_info* fi) {
  if (endpoint_of(ino) == nullptr) return void(fuse_reply_err(req, EISDIR));
  auto handle = std::make_unique<Handle>();
  fi->fh = reinterpret_cast<uint64_t>(handle.get());
  fi->direct_io = 1;
  if (fuse_reply_open(req, fi) == 0) handle.release();
}

void control_release(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  delete handle_of(fi);
  fuse_reply_err(req, 0);
}

void control_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* fi) {
  Handle* handle = handle_of(fi);
  std::string part;
  if (offset == 0) {
    const auto text =
        fuse_context_of(req).control.get(endpoint_of(ino)->topic, calling_process_of(req));
    if (!text) return reply_error(req, text.error());
    std::string answer = text.value();
    if (!answer.empty() && answer.back() != '\n') answer += '\n';
    std::lock_guard lock(handle->mutex);
    handle->answer = std::move(answer);
  }
  {
    std::lock_guard lock(handle->mutex);
    const auto start = static_cast<size_t>(offset);
    if (start < handle->answer.size()) part = handle->answer.substr(start, size);
  }
  fuse_reply_buf(req, part.data(), part.size());
}

void control_write(fuse_req_t req, fuse_ino_t ino, const char* data, size_t size, off_t,
                   fuse_file_info* fi) {
  // Asynchronous direct I/O: the caller does not wait in the kernel (fs/mount/broker.h).
  if ((fi->flags & O_DIRECT) != 0) return void(fuse_reply_err(req, EINVAL));
  const auto result = fuse_context_of(req).control.set(endpoint_of(ino)->topic, {data, size},
                                                       calling_process_of(req));
  if (!result) return reply_error(req, result.error());
  fuse_reply_write(req, size);
}

void control_getxattr(fuse_req_t req, fuse_ino_t, const char*, size_t) {
  fuse_reply_err(req, ENODATA);
}

void control_listxattr(fuse_req_t req, fuse_ino_t, size_t size) {
  if (size == 0) {
    fuse_reply_xattr(req, 0);
  } else {
    fuse_reply_buf(req, nullptr, 0);
  }
}

}  // namespace

void add_control_operations(fuse_lowlevel_ops& table, RawOperations& raw_table) {
  raw_table.statx = control_statx;
  table.lookup = control_lookup;
  table.forget = control_forget;
  table.getattr = control_getattr;
  table.setattr = control_setattr;
  table.opendir = control_opendir;
  table.readdir = control_readdir;
  table.readdirplus = control_readdirplus;
  table.releasedir = control_releasedir;
  table.fsync = control_fsync;
  table.fsyncdir = control_fsync;
  table.open = control_open;
  table.release = control_release;
  table.read = control_read;
  table.write = control_write;
  table.getxattr = control_getxattr;
  table.listxattr = control_listxattr;
  table.ioctl = control_ioctl;
}

}  // namespace moltfs::fs::fuse
