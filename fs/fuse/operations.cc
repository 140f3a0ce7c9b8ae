// SPDX-License-Identifier: MIT
// The table of operations for libfuse. Each operation goes to the files' function or to the control
// directory's: this is the only place that decides which. Also what is agreed with the kernel at
// the start.
#include <algorithm>

#include "fs/fuse/fuse_context.h"

namespace moltfs::fs::fuse {
namespace {

/// MNT/.moltfs and all in it.
bool is_control_inode(fuse_ino_t ino) {
  return ino != FUSE_ROOT_ID && ino < kFirstFreeInode.value;
}
bool is_control_name(fuse_ino_t parent, std::string_view name) {
  return is_control_inode(parent) || (parent == FUSE_ROOT_ID && name == kControlDirectory);
}

/// Calls the function of one of the two tables. EPERM if it has none: the control directory and its
/// files cannot be made, removed or changed in any other way.
template <auto Operation, class... Args>
void call(bool is_control, fuse_req_t req, Args... args) {
  const FuseContext& context = fuse_context_of(req);
  if (is_control) leave_out_of_load();
  const auto function =
      (is_control ? context.control_operations : context.file_operations).*Operation;
  if (function == nullptr) return void(fuse_reply_err(req, EPERM));
  answer_without_memory([&] { function(req, args...); },
                        [req](int error) { fuse_reply_err(req, error); });
}

template <auto Operation>
struct Route;
/// Operations whose second argument is the inode they work on, or the directory of a name.
template <class... Args, void (*fuse_lowlevel_ops::*Operation)(fuse_req_t, fuse_ino_t, Args...)>
struct Route<Operation> {
  static void by_inode(fuse_req_t req, fuse_ino_t ino, Args... args) {
    call<Operation>(is_control_inode(ino), req, ino, args...);
  }
  template <class... Rest>
  static void by_name(fuse_req_t req, fuse_ino_t parent, const char* name, Rest... rest) {
    call<Operation>(is_control_name(parent, name), req, parent, name, rest...);
  }
};

template <auto... Operations>
void route_by_inode(fuse_lowlevel_ops& table) {
  ((table.*Operations = &Route<Operations>::by_inode), ...);
}
template <auto... Operations>
void route_by_name(fuse_lowlevel_ops& table) {
  ((table.*Operations = &Route<Operations>::by_name), ...);
}

// ---- Operations with two names, two inodes or many.

void route_symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  call<&fuse_lowlevel_ops::symlink>(is_control_name(parent, name), req, target, parent, name);
}

void route_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  const bool is_control = is_control_inode(ino) || is_control_name(parent, name);
  call<&fuse_lowlevel_ops::link>(is_control, req, ino, parent, name);
}

void route_rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
                  const char* new_name, unsigned flags) {
  const bool is_control = is_control_name(parent, name) || is_control_name(new_parent, new_name);
  call<&fuse_lowlevel_ops::rename>(is_control, req, parent, name, new_parent, new_name, flags);
}

void route_copy_file_range(fuse_req_t req, fuse_ino_t from, off_t from_offset,
                           fuse_file_info* from_file, fuse_ino_t to, off_t to_offset,
                           fuse_file_info* to_file, size_t length, int flags) {
  const bool is_control = is_control_inode(from) || is_control_inode(to);
  call<&fuse_lowlevel_ops::copy_file_range>(is_control, req, from, from_offset, from_file, to,
                                            to_offset, to_file, length, flags);
}

void route_forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  fuse_forget_data* const end =
      std::remove_if(forgets, forgets + count,
                     [](const fuse_forget_data& forget) { return is_control_inode(forget.ino); });
  call<&fuse_lowlevel_ops::forget_multi>(false, req, static_cast<size_t>(end - forgets), forgets);
}

/// The connection: capabilities and sizes.
void init(void*, fuse_conn_info* connection) {
  constexpr unsigned kWanted =
      FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_WRITEBACK_CACHE |
      FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO |
      FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK | FUSE_CAP_HANDLE_KILLPRIV |
      FUSE_CAP_CACHE_SYMLINKS | FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_IOCTL_DIR;
  // Not wanted: splicing (buffers are page-aligned memory), locks (those of the kernel will do),
  // atomic O_TRUNC (a separate truncate says whether set-id bits must be cleared).
  connection->want = connection->capable & kWanted;
  connection->max_write = kMaxWriteBytes;
  connection->max_background = 64;
  connection->congestion_threshold = 48;
  connection->time_gran = 1;
}

}  // namespace

fuse_lowlevel_ops routed_operations() {
  using Ops = fuse_lowlevel_ops;
  Ops table{};
  table.init = init;
  table.statfs = [](fuse_req_t req, fuse_ino_t ino) { call<&Ops::statfs>(false, req, ino); };
  table.symlink = route_symlink;
  table.link = route_link;
  table.rename = route_rename;
  table.copy_file_range = route_copy_file_range;
  table.forget_multi = route_forget_multi;
  route_by_name<&Ops::lookup, &Ops::mknod, &Ops::mkdir, &Ops::create, &Ops::unlink, &Ops::rmdir>(
      table);
  route_by_inode<&Ops::forget, &Ops::getattr, &Ops::setattr, &Ops::readlink, &Ops::open, &Ops::read,
                 &Ops::write, &Ops::release, &Ops::fsync, &Ops::opendir, &Ops::readdir,
                 &Ops::readdirplus, &Ops::releasedir, &Ops::fsyncdir, &Ops::setxattr,
                 &Ops::getxattr, &Ops::listxattr, &Ops::removexattr, &Ops::fallocate, &Ops::lseek,
                 &Ops::ioctl>(table);
  return table;
}

const RawOperations& raw_operations_of(const FuseContext& context, fuse_ino_t ino) {
  return is_control_inode(ino) ? context.raw_control_operations : context.raw_file_operations;
}

}  // namespace moltfs::fs::fuse
