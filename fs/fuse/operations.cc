// SPDX-License-Identifier: MIT
// The table that libfuse is given: each operation goes to the files' or the control directory's
// function, by the number of its inode. And what is agreed with the kernel at the start.
#include <algorithm>

#include "fs/fuse/fuse_context.h"

namespace moltfs::fs::fuse {
namespace {

template <auto Operation>
struct Route;

/// Operations whose second argument is the inode they work on.
template <class... Args, void (*fuse_lowlevel_ops::*Operation)(fuse_req_t, fuse_ino_t, Args...)>
struct Route<Operation> {
  static void call(fuse_req_t req, fuse_ino_t ino, Args... args) {
    const FuseContext& context = fuse_context_of(req);
    const auto function = is_control_inode(ino) ? context.control_operations.*Operation
                                                : context.file_operations.*Operation;
    if (function == nullptr) {
      fuse_reply_err(req, EPERM);
    } else {
      function(req, ino, args...);
    }
  }
};

template <auto... Operations>
void route(const fuse_lowlevel_ops& from, fuse_lowlevel_ops& table) {
  const auto route_one = [&]<auto Operation>() {
    if (from.*Operation != nullptr) table.*Operation = &Route<Operation>::call;
  };
  (route_one.template operator()<Operations>(), ...);
}

/// The connection: capabilities and sizes.
void init(void*, fuse_conn_info* connection) {
  constexpr unsigned kWanted =
      FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_WRITEBACK_CACHE |
      FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
      FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK | FUSE_CAP_HANDLE_KILLPRIV |
      FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_IOCTL_DIR;
  // Not wanted: splicing (buffers are page-aligned memory), locks (the kernel's own serve),
  // atomic O_TRUNC (a truncate of its own tells us whether set-id bits go).
  connection->want = connection->capable & kWanted;
  connection->max_write = kMaxWriteBytes;
  connection->max_background = 64;
  connection->congestion_threshold = 48;
  connection->time_gran = 1;
}

}  // namespace

void add_session_operations(fuse_lowlevel_ops& table) {
  table.init = init;
}

fuse_lowlevel_ops routed_operations(const FuseContext& context) {
  using Ops = fuse_lowlevel_ops;
  const Ops& from = context.file_operations;
  Ops table = from;  // those that stay as they are: init, symlink, link, forget_multi, ...
  route<&Ops::lookup, &Ops::forget, &Ops::getattr, &Ops::setattr, &Ops::readlink, &Ops::mknod,
        &Ops::mkdir, &Ops::unlink, &Ops::rmdir, &Ops::rename, &Ops::link, &Ops::open, &Ops::read,
        &Ops::write, &Ops::release, &Ops::fsync, &Ops::opendir, &Ops::readdir, &Ops::readdirplus,
        &Ops::releasedir, &Ops::fsyncdir, &Ops::setxattr, &Ops::getxattr, &Ops::listxattr,
        &Ops::removexattr, &Ops::create, &Ops::fallocate, &Ops::copy_file_range, &Ops::lseek>(
      from, table);
  return table;
}

}  // namespace moltfs::fs::fuse
