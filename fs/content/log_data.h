// SPDX-License-Identifier: MIT
// Inside fs only: checks that the data named by the last batch of the fsync log reached the
// devices, writes the copies that did not, and replays the log in memory for check and dump.
#pragma once

#include <optional>

#include "alloc/volume/volume.h"
#include "fs/tree/transaction.h"

namespace moltfs::fs {

/// Reads the data that `content` names, as far as it was born since the superblock, and compares it
/// with the checksums in `content`. One good copy of each block is enough. Unreadable blocks and
/// invalid records do not match.
bool log_data_matches(alloc::Volume& volume, const LogContent& content);

/// Overwrites the bad copies of this data with the good ones: a crash may have come when only one
/// device had stored it. REQUIRES: log_data_matches() was true; nothing else writes to the volume.
void complete_log_data(alloc::Volume& volume, const LogContent& content);

/// The trees as the next mount will find them; nothing if there is no batch to replay. Writes
/// nothing. REQUIRES: the volume was just opened for reading. Errors: see Transactions::open.
Result<std::optional<Transactions::Replayed>> replay_for_reading(alloc::Volume& volume);

}  // namespace moltfs::fs
