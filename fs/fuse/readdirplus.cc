// SPDX-License-Identifier: MIT
#include "fs/fuse/readdirplus.h"

namespace moltfs::fs::fuse {

bool ReaddirplusHeuristic::begins(InodeNumber directory, pid_t lister) {
  const std::lock_guard lock(mutex_);
  if (wanted_ && ++since_sample_ < kSample) return true;
  since_sample_ = 0;
  if (wanted_ && ++unused_ > kUnused) wanted_ = false;
  Plain& plain = plain_[next_++ % plain_.size()];
  plain.directory.store(directory.value, kRelaxed);
  plain.lister.store(lister, kRelaxed);
  return false;
}

void ReaddirplusHeuristic::followed_up(Plain& plain) {
  const std::lock_guard lock(mutex_);
  plain.directory.store(0, kRelaxed);
  plain.lister.store(kNobody, kRelaxed);
  wanted_ = true;
  unused_ = 0;
}

}  // namespace moltfs::fs::fuse
