// SPDX-License-Identifier: MIT
// Calls on content, through descriptors in slots.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "test/e2e/differ/call.h"
#include "test/e2e/differ/world.h"

namespace differ {
namespace {

int fd_of(const World& world, int slot) {
  return world.fds[static_cast<size_t>(slot)];
}

/// Never zero, so that data can be told from holes.
std::string pattern(uint64_t seed, size_t length) {
  std::string bytes(length, '\0');
  for (size_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<char>(1 + (seed * 31 + i * 7 + i / 251) % 255);
  }
  return bytes;
}

void roll_transfer(Dice& dice, Call& call) {
  call.slot = dice.slot();
  call.numbers = {dice.length(), dice.offset(), dice.below(1000)};
}

Outcome run_write(World& world, const Call& call) {
  const std::string bytes = pattern(call.number(2), call.number(0));
  return outcome_of(write(fd_of(world, call.slot), bytes.data(), bytes.size()));
}

Outcome run_pwrite(World& world, const Call& call) {
  const std::string bytes = pattern(call.number(2), call.number(0));
  return outcome_of(pwrite(fd_of(world, call.slot), bytes.data(), bytes.size(),
                           static_cast<off_t>(call.number(1))));
}

Outcome run_read(World& world, const Call& call) {
  std::string bytes(call.number(0), '\0');
  Outcome outcome = outcome_of(read(fd_of(world, call.slot), bytes.data(), bytes.size()));
  bytes.resize(outcome.error == 0 ? static_cast<size_t>(outcome.value) : 0);
  outcome.text = checksum(bytes);
  return outcome;
}

Outcome run_pread(World& world, const Call& call) {
  std::string bytes(call.number(0), '\0');
  Outcome outcome = outcome_of(pread(fd_of(world, call.slot), bytes.data(), bytes.size(),
                                     static_cast<off_t>(call.number(1))));
  bytes.resize(outcome.error == 0 ? static_cast<size_t>(outcome.value) : 0);
  outcome.text = checksum(bytes);
  return outcome;
}

void roll_seek(Dice& dice, Call& call) {
  static const uint64_t kWhence[] = {SEEK_SET, SEEK_CUR, SEEK_END, SEEK_DATA, SEEK_HOLE, 9};
  call.slot = dice.slot();
  call.numbers = {dice.one_in(10) ? ~uint64_t{0} : dice.offset(), dice.pick(kWhence)};
}

/// How far run_data_seek looks at what it was told.
constexpr off_t kLookBytes = 1 << 20;

/// The first byte in [first, end) that is not zero, or `end`; nothing if it cannot be read.
std::optional<off_t> first_data(int fd, off_t first, off_t end) {
  std::string bytes(static_cast<size_t>(end - first), '\0');
  if (pread(fd, bytes.data(), bytes.size(), first) != static_cast<ssize_t>(bytes.size())) {
    return std::nullopt;
  }
  const size_t at = bytes.find_first_not_of('\0');
  return at == std::string::npos ? end : first + static_cast<off_t>(at);
}

/// SEEK_DATA and SEEK_HOLE within a file: which zeros are data is each filesystem's own, but data
/// lies in no hole, and a hole reads as zeros. Answers where the data is, and leaves the position.
Outcome run_data_seek(int fd, off_t offset, int whence, off_t size) {
  const off_t position = lseek(fd, 0, SEEK_CUR), end = std::min(size, offset + kLookBytes);
  const off_t told = lseek(fd, offset, whence);
  const int error = errno;
  lseek(fd, position, SEEK_SET);
  if (told < 0 && error != ENXIO) return {error, -1, ""};
  const auto data = first_data(fd, offset, end);
  if (!data) return {};  // not open for reading
  Outcome outcome{0, *data, ""};
  if (whence == SEEK_DATA) {
    const off_t hole_end = told < 0 ? size : told;
    if (*data < std::min(hole_end, end)) outcome.text = "data in what is said to be a hole";
  } else if (told < offset || told > size) {
    outcome.text = "a hole outside the file";
  } else if (told < end && first_data(fd, told, told + 1) != told + 1) {
    outcome.text = "a hole that is not zero";
  }
  return outcome;
}

/// In a directory only back to the start: its other positions are each filesystem's own.
Outcome run_seek(World& world, const Call& call) {
  struct stat s {};
  const int fd = fd_of(world, call.slot), whence = static_cast<int>(call.number(1));
  const auto offset = static_cast<off_t>(call.number(0));
  const bool is_there = fstat(fd, &s) == 0;
  if (is_there && S_ISDIR(s.st_mode)) return outcome_of(lseek(fd, 0, SEEK_SET));
  const bool is_data_seek = whence == SEEK_DATA || whence == SEEK_HOLE;
  if (is_there && S_ISREG(s.st_mode) && is_data_seek && offset >= 0 && offset < s.st_size) {
    return run_data_seek(fd, offset, whence, s.st_size);
  }
  return outcome_of(lseek(fd, offset, whence));
}

void roll_fallocate(Dice& dice, Call& call) {
  static const uint64_t kModes[] = {0,
                                    0,
                                    FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_ZERO_RANGE,
                                    FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                    FALLOC_FL_PUNCH_HOLE,
                                    FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE,
                                    0x4000};
  call.slot = dice.slot();
  // Near: far out there may be no room for it.
  call.numbers = {dice.pick(kModes), dice.below(100000), dice.one_in(20) ? 0 : dice.below(50000)};
}

Outcome run_fallocate(World& world, const Call& call) {
  return outcome_of(fallocate(fd_of(world, call.slot), static_cast<int>(call.number(0)),
                              static_cast<off_t>(call.number(1)),
                              static_cast<off_t>(call.number(2))));
}

void roll_copy(Dice& dice, Call& call) {
  call.slot = dice.slot();
  call.other_slot = dice.slot();
  call.numbers = {dice.below(100000), dice.below(100000), dice.length(), dice.one_in(20)};
}

Outcome run_copy(World& world, const Call& call) {
  auto from = static_cast<off_t>(call.number(0)), to = static_cast<off_t>(call.number(1));
  return outcome_of(copy_file_range(fd_of(world, call.slot), &from, fd_of(world, call.other_slot),
                                    &to, call.number(2), static_cast<unsigned>(call.number(3))));
}

void roll_slot(Dice& dice, Call& call) {
  call.slot = dice.slot();
}

Outcome run_fsync(World& world, const Call& call) {
  return outcome_of(fsync(fd_of(world, call.slot)));
}

void roll_flags(Dice& dice, Call& call) {
  static const uint64_t kFlags[] = {0, O_APPEND, O_NOATIME, O_APPEND | O_NOATIME};
  call.slot = dice.slot();
  call.numbers = {dice.pick(kFlags)};
}

Outcome run_flags(World& world, const Call& call) {
  return outcome_of(
      fcntl(fd_of(world, call.slot), F_SETFL, static_cast<int>(call.number(0)) | O_NONBLOCK));
}

constexpr Kind kKinds[] = {
    {"write", 8, roll_transfer, run_write},      {"pwrite", 8, roll_transfer, run_pwrite},
    {"read", 4, roll_transfer, run_read},        {"pread", 6, roll_transfer, run_pread},
    {"lseek", 4, roll_seek, run_seek},           {"fallocate", 5, roll_fallocate, run_fallocate},
    {"copy_file_range", 4, roll_copy, run_copy}, {"fsync", 1, roll_slot, run_fsync},
    {"fcntl F_SETFL", 1, roll_flags, run_flags},
};

}  // namespace

std::span<const Kind> content_kinds() {
  return kKinds;
}

}  // namespace differ
