// SPDX-License-Identifier: MIT
// The operations that the file exerciser knows, drawn from a seed.
#pragma once

#include <array>
#include <string>

#include "test/e2e/file_model.h"
#include "test/e2e/random.h"

namespace e2e {

enum class Kind : uint8_t {
  read,
  write,
  append,
  write_vector,  ///< pwritev2, with RWF_DSYNC if `flag`
  map_read,
  map_write,    ///< msync(MS_SYNC) afterwards if `flag`
  private_map,  ///< stores into a private mapping: seen there, nowhere else
  beyond_end,   ///< through a mapping: zeros up to the end of the page, then SIGBUS
  truncate,     ///< by path if `flag`
  punch,
  zero,      ///< keeps the size if `flag`
  allocate,  ///< likewise
  collapse,  ///< collapse or insert: only that it does no harm
  copy,      ///< copy_file_range to `other`
  direct_read,
  direct_write,  ///< aligned
  direct_odd,    ///< not aligned: a read or, if `flag`, a write that works or gives EINVAL
  sync_write,    ///< O_SYNC
  pipe_read,     ///< splice
  pipe_write,
  send_file,  ///< sendfile to `other`
  reopen,
  sync,      ///< fdatasync if `flag`
  sync_all,  ///< both files
  drop,      ///< the cached pages
  seek,      ///< holes and data
  compare,   ///< all of the file
  count
};

struct Operation {
  uint64_t number = 0;
  Kind kind = Kind::read;
  int file = 0;
  uint64_t offset = 0, length = 0;
  int other = 0;  ///< file
  uint64_t other_offset = 0;
  bool flag = false;

  uint64_t end() const { return offset + length; }
  std::string describe() const;
};

inline constexpr int kFiles = 2;
using Models = std::array<FileModel, kFiles>;

class Planner {
 public:
  Planner(uint64_t seed, uint64_t max_size) : random_(seed), max_size_(max_size) {}
  Operation next(const Models& models);

 private:
  uint64_t draw_offset(const FileModel& model);
  uint64_t draw_length();
  void place_within(Operation& op, const FileModel& model);
  void place_change(Operation& op, const FileModel& model);
  void place_aligned(Operation& op);
  void place_copy(Operation& op, const Models& models);

  Random random_;
  const uint64_t max_size_;
  uint64_t number_ = 0;
};

/// What the operation does to the files. Not `durable`: it may have been cut short by a crash, so
/// that what it makes durable may not be.
void apply(const Operation& op, Models& models, bool durable = true);

}  // namespace e2e
