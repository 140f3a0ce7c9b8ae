// SPDX-License-Identifier: MIT
// Access to the counters and the generation of the running trees.
#include "fs/tree/access.h"

#include "fs/tree/state.h"

namespace moltfs::fs {

Generation Access::running() const {
  return state_.running;
}

const FsCounters& Access::counters() const {
  return state_.counters;
}

FsCounters& Txn::counters_for_change() {
  ++state_.changes;
  return state_.counters;
}

}  // namespace moltfs::fs
