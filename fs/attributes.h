// SPDX-License-Identifier: MIT
// Inside fs only: changing attributes; clearing set-id bits and capabilities. fs/filesystem.h has
// the contracts.
#pragma once

#include "fs/inode/context.h"

namespace moltfs::fs {

Result<Attributes> load_attributes(FilesystemContext& context, InodeNumber ino);
Result<Attributes> take_by_number(FilesystemContext& context, InodeNumber ino, uint64_t generation);
Result<Attributes> change_attributes(FilesystemContext& context, InodeNumber ino,
                                     const SetAttributes& set);

/// `mode` after kill_suidgid: without the set-uid bit, and without the set-gid bit if the group may
/// execute (else that bit once meant mandatory locking) or the caller is `outside_group`.
uint32_t mode_after_kill_suidgid(uint32_t mode, bool outside_group);
/// Clears set-id bits and security.capability, before a write. Without them nothing is changed.
Result<void> kill_suidgid(FilesystemContext& context, InodeNumber ino, bool outside_group);

}  // namespace moltfs::fs
