// SPDX-License-Identifier: MIT
#include "fs/fuse/space_reservations.h"

#include <algorithm>
#include <utility>

namespace moltfs::fs::fuse {

void SpaceReservations::begin(uint64_t unknown_bytes, Nanoseconds now) {
  unknown_ = unknown_bytes;
  low_since_ = now;
}

bool SpaceReservations::reserve(uint64_t ino, pid_t thread, uint64_t free_bytes, Nanoseconds now) {
  if (blocked_ || free_bytes < reserved_bytes() + kBytes) return false;
  files_[ino].fresh += kBytes;
  reserved_ += kBytes;
  storing_.push_back({thread, ino, now + kStoringFor});
  return true;
}

void SpaceReservations::write_ended(pid_t thread, uint64_t ino, Nanoseconds now) {
  std::erase_if(storing_, [=](const Storing& storing) {
    const bool is_same = storing.thread == thread && (thread != 0 || storing.ino == ino);
    return is_same || storing.until <= now;
  });
}

void SpaceReservations::written(uint64_t ino, uint64_t bytes) {
  const auto found = files_.find(ino);
  if (found != files_.end()) {
    for (uint64_t File::*part : {&File::closing, &File::fresh}) {
      const uint64_t used = std::min(found->second.*part, bytes);
      found->second.*part -= used;
      reserved_ -= used;
      bytes -= used;
    }
  }
  unknown_ -= std::min(unknown_, bytes);
}

void SpaceReservations::closed(uint64_t ino) {
  std::erase_if(storing_, [=](const Storing& storing) { return storing.ino == ino; });
  const auto found = files_.find(ino);
  if (found == files_.end()) return;
  reserved_ -= found->second.fresh + found->second.closing;
  files_.erase(found);
}

SpaceReservations::WriteBack SpaceReservations::begin_write_back(
    const std::vector<uint64_t>& open_inodes, Nanoseconds now) {
  std::erase_if(storing_, [=](const Storing& storing) { return storing.until <= now; });
  WriteBack begun;
  begun.low_since = low_since_;
  for (auto& [ino, file] : files_) {
    file.closing += std::exchange(file.fresh, 0);
    begun.inodes.push_back(ino);
  }
  for (const Storing& storing : storing_) {
    File& file = files_[storing.ino];
    const uint64_t kept = std::min(kBytes, file.closing);
    file.closing -= kept;
    file.fresh += kept;
  }
  if (has_unknown()) {
    begun.inodes = open_inodes;
    // One write of each file may be storing since before space was low.
    if (now < low_since_ + kStoringFor) begun.unknown_left = open_inodes.size() * kBytes;
  }
  begun.is_complete = storing_.empty() && begun.unknown_left == 0;
  return begun;
}

void SpaceReservations::end_write_back(const WriteBack& done) {
  // If space became low again meanwhile, what is unknown now is newer than the write-back.
  if (done.low_since == low_since_) unknown_ = std::min(unknown_, done.unknown_left);
  for (auto& [ino, file] : files_) reserved_ -= std::exchange(file.closing, 0);
  std::erase_if(files_, [](const auto& entry) { return entry.second.fresh == 0; });
}

}  // namespace moltfs::fs::fuse
