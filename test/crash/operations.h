// SPDX-License-Identifier: MIT
// The operations whose crashes and faults are tried one by one, and the filesystem they work on.
#pragma once

#include "test/crash/lab.h"

namespace moltfs::crash {

struct Operation {
  const char* name;
  std::function<Result<void>(fs::Filesystem&)> act;
};
const std::vector<Operation>& operations();
/// By name. Throws if there is none.
const Operation& operation(std::string_view name);

/// A disk "a" with a filesystem (chunks of 1 MiB) that holds what the operations need.
const Images& prepared();

}  // namespace moltfs::crash
