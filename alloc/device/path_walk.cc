// SPDX-License-Identifier: MIT
// One openat(2) for each name.
#include "alloc/device/path_walk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace moltfs::alloc {
namespace {

constexpr unsigned kMaxLinks = 40;  // as the kernel
constexpr int kFlags = O_PATH | O_CLOEXEC;

bool links_are_protected() {
  int value = 0;
  std::ifstream file("/proc/sys/fs/protected_symlinks");
  return (file >> value) && value != 0;
}

}  // namespace

bool PathWalk::fail(int error) {
  error_ = error;
  return false;
}

bool PathWalk::is_on_proc(uint64_t mount_id) {
  if (!mounts_) mounts_ = read_mountinfo();
  const MountinfoEntry* const mount = mount_of_id(*mounts_, mount_id);
  return mount != nullptr && mount->type == "proc";
}

/// Makes `place` the place that is open at `fd`. Sends no request to a FUSE filesystem.
bool PathWalk::take(int fd, Place& place) {
  if (fd < 0) return fail(errno);
  place.fd = Descriptor(fd);
  struct statx status {};
  if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS | STATX_MNT_ID,
            &status) != 0) {
    return fail(errno);
  }
  place.device = makedev(status.stx_dev_major, status.stx_dev_minor);
  place.mode = status.stx_mode;
  place.owner = status.stx_uid;
  place.is_proc = S_ISDIR(place.mode) && is_on_proc(status.stx_mnt_id);
  return true;
}

/// Follows `link`, which lies in `directory`; `directory` becomes the place where rest_ begins.
bool PathWalk::follow(Place& directory, Place& link) {
  if (++links_ > kMaxLinks) return fail(ELOOP);
  const bool is_shared = (directory.mode & (S_ISVTX | S_IWOTH)) == (S_ISVTX | S_IWOTH);
  if (is_shared && link.owner != geteuid() && link.owner != directory.owner &&
      links_are_protected()) {
    return fail(EACCES);
  }
  std::string target(PATH_MAX, '\0');
  const ssize_t length = readlinkat(link.fd.get(), "", target.data(), target.size());
  if (length <= 0) return fail(length < 0 ? errno : ENOENT);
  target.resize(static_cast<size_t>(length));
  rest_ = target + (rest_.empty() ? "" : "/" + rest_);
  return !target.starts_with('/') || take(::open("/", kFlags | O_DIRECTORY), directory);
}

/// Goes from `place` to `name` in it.
bool PathWalk::step(const std::string& name, Place& place) {
  if (name == "..") return take(openat(place.fd.get(), "..", kFlags | O_DIRECTORY), place);
  if (place.device == forbidden_) {
    met_served_ = true;
    return false;
  }
  const int flags = place.is_proc ? kFlags : kFlags | O_NOFOLLOW;
  Place next;
  if (!take(openat(place.fd.get(), name.c_str(), flags), next)) return false;
  if (S_ISLNK(next.mode)) return follow(place, next);
  place = std::move(next);
  return true;
}

Descriptor PathWalk::open(const std::string& path) {
  const char* const start = path.starts_with('/') ? "/" : ".";
  Place place;
  if (path.empty() || path.size() >= PATH_MAX) {
    fail(path.empty() ? ENOENT : ENAMETOOLONG);
    return {};
  }
  if (!take(::open(start, kFlags | O_DIRECTORY), place)) return {};
  for (rest_ = path; !rest_.empty();) {
    const size_t end = std::min(rest_.find('/'), rest_.size());
    const std::string name = rest_.substr(0, end);
    rest_.erase(0, std::min(rest_.find_first_not_of('/', end), rest_.size()));
    const bool was_directory = S_ISDIR(place.mode);
    if (!was_directory) {
      fail(ENOTDIR);
      return {};
    }
    if (name.empty() || name == ".") continue;
    // "name/" asks for a directory, also through a link.
    if (rest_.empty() && end < path.size() && path.ends_with('/')) rest_ = ".";
    if (!step(name, place)) return {};
  }
  if (place.device == forbidden_) met_served_ = true;
  return met_served_ ? Descriptor() : std::move(place.fd);
}

}  // namespace moltfs::alloc
