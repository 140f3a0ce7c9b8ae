// SPDX-License-Identifier: MIT
#include "fs/fuse/space_reservations.h"

#include <algorithm>
#include <utility>

namespace moltfs::fs::fuse {

void SpaceReservations::begin(uint64_t unknown_bytes, Nanoseconds now) {
  has_unknown_ = true;
  unknown_ = unknown_bytes;
  came_ = 0;
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

std::optional<uint64_t> SpaceReservations::begin_store(uint64_t ino, uint64_t bytes,
                                                       uint64_t free_bytes) {
  if (has_unknown_ && came_ + bytes <= reserved_ + unknown_) {
    came_ += bytes;
    return 0;
  }
  const auto found = files_.find(ino);
  const bool has_any = !has_unknown_ && found != files_.end();
  const uint64_t from_closing = has_any ? std::min(found->second.closing, bytes) : 0;
  const uint64_t from_fresh = has_any ? std::min(found->second.fresh, bytes - from_closing) : 0;
  const uint64_t more = bytes - from_closing - from_fresh;
  if (more > 0 && free_bytes < reserved_bytes() + more) return std::nullopt;
  if (has_any) {
    found->second.closing -= from_closing;
    found->second.fresh -= from_fresh;
    reserved_ -= from_closing + from_fresh;
  }
  in_flight_ += bytes;
  return bytes;
}

std::optional<uint64_t> SpaceReservations::begin_direct_store(uint64_t ino, pid_t thread,
                                                              uint64_t bytes, uint64_t free_bytes,
                                                              Nanoseconds now) {
  const auto found = files_.find(ino);
  const bool has_own =
      found != files_.end() &&
      std::any_of(storing_.begin(), storing_.end(), [=](const Storing& storing) {
        return storing.thread == thread && storing.ino == ino && now < storing.until;
      });
  const uint64_t own = has_own ? std::min(kBytes, found->second.closing + found->second.fresh) : 0;
  if (free_bytes + own < reserved_bytes() + bytes) return std::nullopt;
  in_flight_ += bytes;
  return bytes;
}

void SpaceReservations::closed(uint64_t ino) {
  std::erase_if(storing_, [=](const Storing& storing) { return storing.ino == ino; });
  const auto found = files_.find(ino);
  if (found == files_.end()) return;
  const uint64_t reserved = found->second.fresh + found->second.closing;
  reserved_ -= reserved;
  came_ -= std::min(came_, reserved);
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
  if (has_unknown_) {
    begun.inodes = open_inodes;
    // One write of each file may be storing since before space was low.
    if (now < low_since_ + kStoringFor) begun.unknown_left = open_inodes.size() * kBytes;
  }
  begun.is_complete = storing_.empty() && begun.unknown_left == 0;
  return begun;
}

void SpaceReservations::end_write_back(const WriteBack& done) {
  // If space became low again meanwhile, what is unknown now is newer than the write-back.
  if (done.low_since == low_since_) {
    unknown_ = std::min(unknown_, done.unknown_left);
    has_unknown_ = done.unknown_left > 0;
    came_ = 0;
  }
  for (auto& [ino, file] : files_) reserved_ -= std::exchange(file.closing, 0);
  std::erase_if(files_, [](const auto& entry) { return entry.second.fresh == 0; });
}

}  // namespace moltfs::fs::fuse
