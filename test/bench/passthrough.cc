// SPDX-License-Identifier: MIT
// A FUSE filesystem that only forwards each request to a directory of another filesystem. Its speed
// is the most that FUSE can reach on that filesystem. It uses the low-level API, the writeback
// cache, readdirplus, long timeouts, requests of 1 MiB, splice(2) for reads and writes, and the
// threads that libfuse starts by itself.
//
//   bench_passthrough DIRECTORY MOUNTPOINT
#define FUSE_USE_VERSION 35
#include <dirent.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

constexpr double kTimeoutSeconds = 86400;
constexpr unsigned kRequestBytes = 1 << 20;

/// An inode that the kernel holds a reference to.
struct Node {
  int fd = -1;  // O_PATH
  ino_t number = 0;
  uint64_t lookups = 0;
};

std::mutex nodes_mutex;
std::unordered_map<ino_t, Node*> nodes;  // by number; guarded by nodes_mutex
Node root;

Node& node_of(fuse_ino_t ino) {
  return ino == FUSE_ROOT_ID ? root : *reinterpret_cast<Node*>(ino);
}
int fd_of(fuse_ino_t ino) {
  return node_of(ino).fd;
}
std::string path_of(fuse_ino_t ino) {
  return "/proc/self/fd/" + std::to_string(fd_of(ino));
}
int handle_of(const fuse_file_info* info) {
  return static_cast<int>(info->fh);
}

void answer(fuse_req_t request, int result) {
  fuse_reply_err(request, result < 0 ? errno : 0);
}

/// Looks a name up. Returns 0 or an errno.
int find(fuse_ino_t parent, const char* name, fuse_entry_param& entry) {
  entry = {};
  entry.attr_timeout = entry.entry_timeout = kTimeoutSeconds;
  const int fd = openat(fd_of(parent), name, O_PATH | O_NOFOLLOW);
  if (fd < 0 || fstat(fd, &entry.attr) < 0) {
    const int error = errno;
    if (fd >= 0) close(fd);
    return error;
  }
  const std::lock_guard lock(nodes_mutex);
  Node*& node = nodes[entry.attr.st_ino];
  if (node == nullptr) {
    node = new Node{fd, entry.attr.st_ino, 0};
  } else {
    close(fd);
  }
  node->lookups++;
  entry.ino = reinterpret_cast<fuse_ino_t>(node);
  return 0;
}

void answer_entry(fuse_req_t request, fuse_ino_t parent, const char* name) {
  fuse_entry_param entry;
  if (const int error = find(parent, name, entry)) {
    fuse_reply_err(request, error);
  } else {
    fuse_reply_entry(request, &entry);
  }
}

void forget_one(fuse_ino_t ino, uint64_t count) {
  if (ino == FUSE_ROOT_ID) return;
  const std::lock_guard lock(nodes_mutex);
  Node& node = node_of(ino);
  node.lookups -= count;
  if (node.lookups > 0) return;
  nodes.erase(node.number);
  close(node.fd);
  delete &node;
}

void on_init(void*, fuse_conn_info* connection) {
  connection->want |= connection->capable &
                      (FUSE_CAP_WRITEBACK_CACHE | FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE |
                       FUSE_CAP_SPLICE_MOVE | FUSE_CAP_PARALLEL_DIROPS);
  connection->max_write = kRequestBytes;
  connection->max_readahead = kRequestBytes;
  connection->max_background = 64;
}

void on_lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
  answer_entry(request, parent, name);
}

void on_forget(fuse_req_t request, fuse_ino_t ino, uint64_t count) {
  forget_one(ino, count);
  fuse_reply_none(request);
}

void on_forget_multi(fuse_req_t request, size_t count, fuse_forget_data* list) {
  for (size_t i = 0; i < count; i++) forget_one(list[i].ino, list[i].nlookup);
  fuse_reply_none(request);
}

void on_getattr(fuse_req_t request, fuse_ino_t ino, fuse_file_info*) {
  struct stat attr;
  if (fstatat(fd_of(ino), "", &attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
    fuse_reply_err(request, errno);
  } else {
    fuse_reply_attr(request, &attr, kTimeoutSeconds);
  }
}

int set_times(const std::string& path, const struct stat& attr, int which) {
  const auto time_of = [&](int now, int given, const timespec& value) -> timespec {
    if (which & now) return {0, UTIME_NOW};
    if (which & given) return value;
    return {0, UTIME_OMIT};
  };
  const timespec times[2] = {time_of(FUSE_SET_ATTR_ATIME_NOW, FUSE_SET_ATTR_ATIME, attr.st_atim),
                             time_of(FUSE_SET_ATTR_MTIME_NOW, FUSE_SET_ATTR_MTIME, attr.st_mtim)};
  return utimensat(AT_FDCWD, path.c_str(), times, 0);
}

void on_setattr(fuse_req_t request, fuse_ino_t ino, struct stat* attr, int which,
                fuse_file_info* info) {
  const std::string path = path_of(ino);
  int result = 0;
  if (which & FUSE_SET_ATTR_MODE) result = chmod(path.c_str(), attr->st_mode);
  if (result == 0 && (which & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))) {
    result = fchownat(fd_of(ino), "", which & FUSE_SET_ATTR_UID ? attr->st_uid : -1u,
                      which & FUSE_SET_ATTR_GID ? attr->st_gid : -1u,
                      AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW);
  }
  if (result == 0 && (which & FUSE_SET_ATTR_SIZE)) {
    result = truncate(path.c_str(), attr->st_size);
  }
  if (result == 0 && (which & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME))) {
    result = set_times(path, *attr, which);
  }
  if (result < 0) return answer(request, result);
  on_getattr(request, ino, info);
}

void on_readlink(fuse_req_t request, fuse_ino_t ino) {
  std::vector<char> target(4097);
  const ssize_t bytes = readlinkat(fd_of(ino), "", target.data(), target.size() - 1);
  if (bytes < 0) return answer(request, -1);
  target[static_cast<size_t>(bytes)] = 0;
  fuse_reply_readlink(request, target.data());
}

void on_mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
  if (mkdirat(fd_of(parent), name, mode) < 0) return answer(request, -1);
  answer_entry(request, parent, name);
}

void on_symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
  if (symlinkat(target, fd_of(parent), name) < 0) return answer(request, -1);
  answer_entry(request, parent, name);
}

void on_link(fuse_req_t request, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  if (linkat(AT_FDCWD, path_of(ino).c_str(), fd_of(parent), name, AT_SYMLINK_FOLLOW) < 0) {
    return answer(request, -1);
  }
  answer_entry(request, parent, name);
}

void on_unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
  answer(request, unlinkat(fd_of(parent), name, 0));
}

void on_rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
  answer(request, unlinkat(fd_of(parent), name, AT_REMOVEDIR));
}

void on_rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
               const char* new_name, unsigned flags) {
  answer(request, renameat2(fd_of(parent), name, fd_of(new_parent), new_name, flags));
}

/// With the writeback cache the kernel reads also what was opened for writing only, and it does the
/// appending itself.
int flags_for(const fuse_file_info* info) {
  int flags = info->flags & ~(O_APPEND | O_NOFOLLOW);
  if ((flags & O_ACCMODE) == O_WRONLY) flags = (flags & ~O_ACCMODE) | O_RDWR;
  return flags;
}

void on_create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode,
               fuse_file_info* info) {
  const int fd = openat(fd_of(parent), name, flags_for(info) | O_CREAT, mode);
  if (fd < 0) return answer(request, -1);
  fuse_entry_param entry;
  if (const int error = find(parent, name, entry)) {
    close(fd);
    fuse_reply_err(request, error);
    return;
  }
  info->fh = static_cast<uint64_t>(fd);
  fuse_reply_create(request, &entry, info);
}

void on_open(fuse_req_t request, fuse_ino_t ino, fuse_file_info* info) {
  const int fd = open(path_of(ino).c_str(), flags_for(info));
  if (fd < 0) return answer(request, -1);
  info->fh = static_cast<uint64_t>(fd);
  info->keep_cache = 1;
  fuse_reply_open(request, info);
}

void on_read(fuse_req_t request, fuse_ino_t, size_t bytes, off_t offset, fuse_file_info* info) {
  fuse_bufvec buffer = FUSE_BUFVEC_INIT(bytes);
  buffer.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
  buffer.buf[0].fd = handle_of(info);
  buffer.buf[0].pos = offset;
  fuse_reply_data(request, &buffer, FUSE_BUF_SPLICE_MOVE);
}

void on_write(fuse_req_t request, fuse_ino_t, fuse_bufvec* in, off_t offset, fuse_file_info* info) {
  fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
  out.buf[0].flags = static_cast<fuse_buf_flags>(FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK);
  out.buf[0].fd = handle_of(info);
  out.buf[0].pos = offset;
  const ssize_t done = fuse_buf_copy(&out, in, static_cast<fuse_buf_copy_flags>(0));
  if (done < 0) {
    fuse_reply_err(request, static_cast<int>(-done));
  } else {
    fuse_reply_write(request, static_cast<size_t>(done));
  }
}

void on_flush(fuse_req_t request, fuse_ino_t, fuse_file_info*) {
  fuse_reply_err(request, ENOSYS);
}

void on_release(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  close(handle_of(info));
  fuse_reply_err(request, 0);
}

void on_fsync(fuse_req_t request, fuse_ino_t, int data_only, fuse_file_info* info) {
  answer(request, data_only ? fdatasync(handle_of(info)) : fsync(handle_of(info)));
}

/// An open directory. `pending` is the entry that did not fit into the last answer.
struct Listing {
  DIR* stream = nullptr;
  dirent* pending = nullptr;
  off_t offset = 0;
};

void on_opendir(fuse_req_t request, fuse_ino_t ino, fuse_file_info* info) {
  const int fd = openat(fd_of(ino), ".", O_RDONLY | O_DIRECTORY);
  DIR* stream = fd < 0 ? nullptr : fdopendir(fd);
  if (stream == nullptr) return answer(request, -1);
  info->fh = reinterpret_cast<uint64_t>(new Listing{stream});
  info->cache_readdir = 1;
  fuse_reply_open(request, info);
}

void answer_listing(fuse_req_t request, fuse_ino_t ino, size_t bytes, off_t offset,
                    fuse_file_info* info, bool plus) {
  Listing& listing = *reinterpret_cast<Listing*>(info->fh);
  std::vector<char> out(bytes);
  if (offset != listing.offset) {
    seekdir(listing.stream, offset);
    listing.pending = nullptr;
  }
  size_t used = 0;
  for (;;) {
    if (listing.pending == nullptr) listing.pending = readdir(listing.stream);
    const dirent* found = listing.pending;
    if (found == nullptr) break;
    const std::string name = found->d_name;
    fuse_entry_param entry = {};
    entry.attr.st_ino = found->d_ino;
    entry.attr.st_mode = static_cast<mode_t>(found->d_type) << 12;
    const bool known = plus && name != "." && name != "..";
    if (known && find(ino, name.c_str(), entry) != 0) break;
    const size_t took = plus ? fuse_add_direntry_plus(request, out.data() + used, bytes - used,
                                                      name.c_str(), &entry, found->d_off)
                             : fuse_add_direntry(request, out.data() + used, bytes - used,
                                                 name.c_str(), &entry.attr, found->d_off);
    if (took > bytes - used) {
      if (known) forget_one(entry.ino, 1);
      break;
    }
    used += took;
    listing.offset = found->d_off;
    listing.pending = nullptr;
  }
  fuse_reply_buf(request, out.data(), used);
}

void on_readdir(fuse_req_t request, fuse_ino_t ino, size_t bytes, off_t offset,
                fuse_file_info* info) {
  answer_listing(request, ino, bytes, offset, info, false);
}

void on_readdirplus(fuse_req_t request, fuse_ino_t ino, size_t bytes, off_t offset,
                    fuse_file_info* info) {
  answer_listing(request, ino, bytes, offset, info, true);
}

void on_releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info* info) {
  const std::unique_ptr<Listing> listing(reinterpret_cast<Listing*>(info->fh));
  closedir(listing->stream);
  fuse_reply_err(request, 0);
}

void on_statfs(fuse_req_t request, fuse_ino_t ino) {
  struct statvfs found;
  if (fstatvfs(fd_of(ino), &found) < 0) return answer(request, -1);
  fuse_reply_statfs(request, &found);
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops ops = {};
  ops.init = on_init;
  ops.lookup = on_lookup;
  ops.forget = on_forget;
  ops.forget_multi = on_forget_multi;
  ops.getattr = on_getattr;
  ops.setattr = on_setattr;
  ops.readlink = on_readlink;
  ops.mkdir = on_mkdir;
  ops.symlink = on_symlink;
  ops.link = on_link;
  ops.unlink = on_unlink;
  ops.rmdir = on_rmdir;
  ops.rename = on_rename;
  ops.create = on_create;
  ops.open = on_open;
  ops.read = on_read;
  ops.write_buf = on_write;
  ops.flush = on_flush;
  ops.release = on_release;
  ops.fsync = on_fsync;
  ops.opendir = on_opendir;
  ops.readdir = on_readdir;
  ops.readdirplus = on_readdirplus;
  ops.releasedir = on_releasedir;
  ops.statfs = on_statfs;
  return ops;
}

int serve(const char* program, const char* directory, const char* mountpoint) {
  const rlimit many = {1 << 20, 1 << 20};
  setrlimit(RLIMIT_NOFILE, &many);
  umask(0);
  root.fd = open(directory, O_PATH | O_DIRECTORY);
  if (root.fd < 0) return perror(directory), 2;
  std::string name = program, option = "-odefault_permissions,allow_other,fsname=passthrough";
  char* words[] = {name.data(), option.data(), nullptr};
  fuse_args args = FUSE_ARGS_INIT(2, words);
  const fuse_lowlevel_ops ops = operations();
  fuse_session* session = fuse_session_new(&args, &ops, sizeof ops, nullptr);
  if (session == nullptr || fuse_session_mount(session, mountpoint) != 0) return 2;
  fuse_set_signal_handlers(session);
  fuse_loop_config loop = {};
  loop.clone_fd = 1;
  loop.max_idle_threads = 10;
  const int status = fuse_session_loop_mt(session, &loop);
  fuse_session_unmount(session);
  fuse_session_destroy(session);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: bench_passthrough DIRECTORY MOUNTPOINT\n");
    return 1;
  }
  return serve(argv[0], argv[1], argv[2]);
}
