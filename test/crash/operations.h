// SPDX-License-Identifier: MIT
// The operations that are tried with crashes and faults, and the filesystems they work on.
#pragma once

#include "test/crash/lab.h"

namespace moltfs::crash {

struct Operation {
  const char* name;
  std::function<Result<void>(fs::Filesystem&)> act;
};
const std::vector<Operation>& operations();
/// Finds an operation by name. Throws if there is none.
const Operation& operation(std::string_view name);

/// A disk "a" with a filesystem (chunks of 1 MiB) that has what the operations need.
const Images& prepared();

/// The small set that generated workloads (generated.h) combine: two files, in the root ("foo",
/// two blocks) and in a directory ("A/bar", inline); names that are free; each way to change
/// content, names and xattrs. Some are refused after some others, for example "unlink foo" twice.
const std::vector<Operation>& small_operations();
/// A disk "a" with a filesystem that holds those two files.
const Images& small_prepared();

}  // namespace moltfs::crash
