// SPDX-License-Identifier: MIT
// Operations on names: lookup, create, link, remove, rename.
#include <fcntl.h>
#include <sys/sysmacros.h>

#include "fs/fuse/fuse_context.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#define RENAME_EXCHANGE 2
#define RENAME_WHITEOUT 4
#endif

namespace moltfs::fs::fuse {
namespace {

/// A name that does not exist. The kernel may cache that, too.
void reply_no_entry(fuse_req_t req) {
  fuse_entry_param entry{};
  entry.entry_timeout = kCacheSeconds;
  fuse_reply_entry(req, &entry);
}

/// "." and ".." are looked up only for file handles (NFS, open_by_handle_at).
Result<Attributes> lookup_relative(Filesystem& filesystem, fuse_ino_t ino, bool parent) {
  if (!parent) return filesystem.by_number(InodeNumber(ino), 0);
  TRY(auto attributes, filesystem.attributes(InodeNumber(ino)));
  return filesystem.by_number(attributes.parent, 0);
}

void lookup(fuse_req_t req, fuse_ino_t parent, const char* name) {
  const std::string_view text = name;
  Filesystem& filesystem = filesystem_of(req);
  if (text == "." || text == "..") {
    return reply_entry(req, lookup_relative(filesystem, parent, text == ".."));
  }
  const auto found = filesystem.lookup(InodeNumber(parent), text);
  if (!found && found.error() == Errc::not_found) return reply_no_entry(req);
  if (found && !S_ISDIR(found.value().mode)) {
    fuse_context_of(req).readdirplus.file_looked_up(InodeNumber(parent));
  }
  reply_entry(req, found);
}

void forget(fuse_req_t req, fuse_ino_t ino, uint64_t count) {
  filesystem_of(req).forget(InodeNumber(ino), count);
  fuse_reply_none(req);
}

void forget_multi(fuse_req_t req, size_t count, fuse_forget_data* forgets) {
  Filesystem& filesystem = filesystem_of(req);
  for (size_t i = 0; i < count; ++i) {
    filesystem.forget(InodeNumber(forgets[i].ino), forgets[i].nlookup);
  }
  fuse_reply_none(req);
}

Result<Attributes> make_inode(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode,
                              dev_t device) {
  const uint64_t number = uint64_t{major(device)} << 32 | minor(device);
  return filesystem_of(req).make(InodeNumber(parent), name, mode, number, caller_of(req));
}

void mknod(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, dev_t device) {
  reply_entry(req, make_inode(req, parent, name, mode, device));
}

void mkdir(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode) {
  reply_entry(req, make_inode(req, parent, name, (mode & 07777) | S_IFDIR, 0));
}

void create(fuse_req_t req, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* fi) {
  const auto made = make_inode(req, parent, name, (mode & 07777) | S_IFREG, 0);
  if (!made) return reply_error(req, made.error());
  FuseContext& context = fuse_context_of(req);
  fi->keep_cache = 1;
  const int flags = fi->flags;
  fi->fh = new_handle(context, flags);
  context.write_opens.opened(made.value().ino.value, flags);
  const fuse_entry_param entry = to_entry(context, made.value());
  if (fuse_reply_create(req, &entry, fi) != 0) {
    context.write_opens.released(entry.ino, flags);
    context.filesystem.forget(made.value().ino, 1);
  }
  context.low_space.attributes_are_cached(entry.ino);
}

void symlink(fuse_req_t req, const char* target, fuse_ino_t parent, const char* name) {
  reply_entry(req, filesystem_of(req).symlink(InodeNumber(parent), name, target, caller_of(req)));
}

void link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char* name) {
  FuseContext& context = fuse_context_of(req);
  reply_entry(req, context.filesystem.link(InodeNumber(ino), InodeNumber(parent), name));
  context.low_space.attributes_are_cached(ino);
}

void unlink(fuse_req_t req, fuse_ino_t parent, const char* name) {
  FuseContext& context = fuse_context_of(req);
  const auto unlinked = context.filesystem.unlink(InodeNumber(parent), name);
  context.low_space.removed();
  reply_done(req, unlinked);
}

void rmdir(fuse_req_t req, fuse_ino_t parent, const char* name) {
  reply_done(req, filesystem_of(req).remove_directory(InodeNumber(parent), name));
}

Result<RenameMode> rename_mode_of(unsigned flags) {
  switch (flags) {
    case 0:
      return RenameMode::replace;
    case RENAME_NOREPLACE:
      return RenameMode::no_replace;
    case RENAME_EXCHANGE:
      return RenameMode::exchange;
    case RENAME_WHITEOUT:
    case RENAME_WHITEOUT | RENAME_NOREPLACE:  // the kernel has checked that the target is absent
      return RenameMode::whiteout;
    default:
      return Errc::invalid_argument;
  }
}

void rename(fuse_req_t req, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
            const char* new_name, unsigned flags) {
  const auto mode = rename_mode_of(flags);
  if (!mode) return reply_error(req, mode.error());
  FuseContext& context = fuse_context_of(req);
  const auto renamed = context.filesystem.rename(InodeNumber(parent), name, InodeNumber(new_parent),
                                                 new_name, mode.value(), caller_of(req));
  context.low_space.removed();
  reply_done(req, renamed);
}

void readlink(fuse_req_t req, fuse_ino_t ino) {
  const auto target = filesystem_of(req).read_symlink(InodeNumber(ino));
  if (!target) return reply_error(req, target.error());
  fuse_reply_readlink(req, target.value().c_str());
}

}  // namespace

void add_name_operations(fuse_lowlevel_ops& table) {
  table.lookup = lookup;
  table.forget = forget;
  table.forget_multi = forget_multi;
  table.mknod = mknod;
  table.mkdir = mkdir;
  table.create = create;
  table.symlink = symlink;
  table.link = link;
  table.unlink = unlink;
  table.rmdir = rmdir;
  table.rename = rename;
  table.readlink = readlink;
}

}  // namespace moltfs::fs::fuse
