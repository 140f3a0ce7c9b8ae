// SPDX-License-Identifier: MIT
// Inside fs only: the fsync log beside the trees. Did the data arrive that its last batch names;
// and what check and dump see of a volume whose log waits to be replayed.
#pragma once

#include <optional>

#include "alloc/volume/volume.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs {

/// Reads the data that `redo` names, as far as it was born since the superblock, and compares it
/// with the checksums there. A block that cannot be read, and a record that makes no sense, do not
/// match.
bool logged_data_matches(alloc::Volume& volume, const Redo& redo);

/// The trees as the next mount will find them, if there is something to replay. Writes nothing.
/// REQUIRES: the volume was opened just now, for reading. Errors: see Transactions::open.
Result<std::optional<Transactions::Replayed>> replay_for_reading(alloc::Volume& volume);

}  // namespace moltfs::fs
