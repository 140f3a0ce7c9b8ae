// SPDX-License-Identifier: MIT
#include "fs/fuse/kernel_cache.h"

#define FUSE_USE_VERSION 314
#include <fuse3/fuse_lowlevel.h>

#include "alloc/base/strong_types.h"
#include "fs/format.h"

namespace moltfs::fs::fuse {

void SessionCache::forget_attributes(uint64_t ino) {
  fuse_lowlevel_notify_inval_inode(session_, ino, -1, 0);
}

// The only notification that invalidates the number of blocks and leaves mode and owner alone is a
// "store" past the end of the file. This one stores 0 bytes.
void SessionCache::forget_blocks(uint64_t ino) {
  fuse_bufvec nothing = FUSE_BUFVEC_INIT(0);
  fuse_lowlevel_notify_store(
      session_, ino, static_cast<off_t>(round_down(kMaxFileBytes, kBlockSize)), &nothing, {});
}

void SessionCache::write_back(uint64_t ino) {
  fuse_lowlevel_notify_inval_inode(session_, ino, 0, 0);
}

void SessionCache::drop(uint64_t ino, uint64_t offset, size_t size) {
  fuse_lowlevel_notify_inval_inode(session_, ino, static_cast<off_t>(offset),
                                   static_cast<off_t>(size));
}

}  // namespace moltfs::fs::fuse
