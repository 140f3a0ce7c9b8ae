// SPDX-License-Identifier: MIT
// Inside fs only: changing attributes, and what follows from other operations for them (set-id
// bits). See fs/filesystem.h for the contracts.
#pragma once

#include "fs/inode/context.h"

namespace moltfs::fs {

Result<Attributes> load_attributes(FilesystemContext& context, InodeNumber ino);
Result<Attributes> take_by_number(FilesystemContext& context, InodeNumber ino, uint64_t generation);
Result<Attributes> change_attributes(FilesystemContext& context, InodeNumber ino,
                                     const SetAttributes& set);

/// `mode` without what a change by somebody else takes away: set-uid, and set-gid where the group
/// may execute (else it once meant mandatory locking) or the somebody is `outside_group`.
uint32_t without_set_id(uint32_t mode, bool outside_group);
/// Before a write: set-id bits and security.capability go. Nothing is written if there are none.
Result<void> kill_privileges(FilesystemContext& context, InodeNumber ino, bool outside_group);

}  // namespace moltfs::fs
