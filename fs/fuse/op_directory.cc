// SPDX-License-Identifier: MIT
// Reading directories, plain and with attributes.
#include <fcntl.h>

#include <algorithm>
#include <vector>

#include "fs/fuse/fuse_context.h"

namespace moltfs::fs::fuse {
namespace {

/// The handle of a directory that was opened with O_NOATIME.
constexpr uint64_t kNoAccess = 1;

struct stat stat_of(const DirEntry& entry) {
  struct stat s {};
  s.st_ino = entry.ino.value;
  s.st_mode = static_cast<mode_t>(entry.type) << 12;  // DTTOIF
  return s;
}

/// One reply being filled.
class Listing {
 public:
  Listing(fuse_req_t req, size_t size)
      : req_(req), buffer_(std::min<size_t>(size, kMaxWriteBytes)) {}

  /// False: there is no room left.
  bool add(const DirEntry& entry) {
    const struct stat s = stat_of(entry);
    return take(fuse_add_direntry(req_, next(), left(), entry.name.c_str(), &s,
                                  static_cast<off_t>(entry.cookie)));
  }
  bool add(const DirEntry& entry, const Attributes* attributes) {
    fuse_entry_param param{};
    if (attributes != nullptr) {
      param = to_entry(fuse_context_of(req_), *attributes);
    } else {
      param.attr = stat_of(entry);  // a number and a type; it does not count as a lookup
    }
    return take(fuse_add_direntry_plus(req_, next(), left(), entry.name.c_str(), &param,
                                       static_cast<off_t>(entry.cookie)));
  }
  int reply() { return fuse_reply_buf(req_, buffer_.data(), used_); }
  bool empty() const { return used_ == 0; }

 private:
  char* next() { return buffer_.data() + used_; }
  size_t left() const { return buffer_.size() - used_; }
  bool take(size_t bytes) {
    if (bytes > left()) return false;
    used_ += bytes;
    return true;
  }

  fuse_req_t req_;
  std::vector<char> buffer_;
  size_t used_ = 0;
};

void opendir(fuse_req_t req, fuse_ino_t, fuse_file_info* fi) {
  // Not ENOSYS ("no opendir"): the kernel would then keep a copy of the listing, and reading a
  // directory that changes meanwhile end early, at a cookie that no longer exists.
  fi->fh = (fi->flags & O_NOATIME) != 0 ? kNoAccess : 0;  // requests to read lack the flags
  fuse_reply_open(req, fi);
}

void releasedir(fuse_req_t req, fuse_ino_t, fuse_file_info*) {
  fuse_reply_err(req, 0);
}

void readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* fi) {
  Listing listing(req, size);
  const auto visit = [&](const DirEntry& entry, const Attributes*) { return listing.add(entry); };
  const auto result = filesystem_of(req).read_directory(
      InodeNumber(ino), static_cast<uint64_t>(offset), false, visit, fi->fh != kNoAccess);
  if (!result && listing.empty()) return reply_error(req, result.error());
  listing.reply();
}

void readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, fuse_file_info* fi) {
  Filesystem& filesystem = filesystem_of(req);
  const InodeNumber directory(ino);
  const bool wanted =
      offset != 0 || fuse_context_of(req).readdirplus.begins(directory, fuse_req_ctx(req)->pid);
  Listing listing(req, size);
  std::vector<InodeNumber> taken;
  const auto visit = [&](const DirEntry& entry, const Attributes* attributes) {
    if (!listing.add(entry, attributes)) return false;
    if (attributes != nullptr) taken.push_back(attributes->ino);
    return true;
  };
  const auto result = filesystem.read_directory(directory, static_cast<uint64_t>(offset), wanted,
                                                visit, fi->fh != kNoAccess);
  if (!result && listing.empty()) return reply_error(req, result.error());
  if (listing.reply() == 0) return;
  for (const InodeNumber number : taken) filesystem.forget(number, 1);
}

void fsyncdir(fuse_req_t req, fuse_ino_t ino, int, fuse_file_info*) {
  reply_done(req, filesystem_of(req).sync(InodeNumber(ino)));
}

}  // namespace

void add_directory_operations(fuse_lowlevel_ops& table) {
  table.opendir = opendir;
  table.releasedir = releasedir;
  table.readdir = readdir;
  table.readdirplus = readdirplus;
  table.fsyncdir = fsyncdir;
}

}  // namespace moltfs::fs::fuse
