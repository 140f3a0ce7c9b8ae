// SPDX-License-Identifier: MIT
// Inside fs only: checks that the data named by the last batch of the fsync log reached the
// devices, and replays the log in memory for check and dump.
#pragma once

#include <optional>

#include "alloc/volume/volume.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs {

/// Reads the data that `content` names, as far as it was born since the superblock, and compares it
/// with the checksums in `content`. Unreadable blocks and invalid records do not match.
bool log_data_matches(alloc::Volume& volume, const LogContent& content);

/// The trees as the next mount will find them; nothing if there is no batch to replay. Writes
/// nothing. REQUIRES: the volume was just opened for reading. Errors: see Transactions::open.
Result<std::optional<Transactions::Replayed>> replay_for_reading(alloc::Volume& volume);

}  // namespace moltfs::fs
