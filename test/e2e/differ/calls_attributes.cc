// SPDX-License-Identifier: MIT
// Calls on attributes: mode, owner, times, size, permission, the filesystem's own.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "test/e2e/differ/call.h"
#include "test/e2e/differ/world.h"

namespace differ {
namespace {

int fd_of(const World& world, const Call& call) {
  return world.fds[static_cast<size_t>(call.slot)];
}

void roll_path(Dice& dice, Call& call) {
  call.path = dice.path();
  call.has_path = true;
}

void roll_chmod(Dice& dice, Call& call) {
  roll_path(dice, call);
  call.numbers = {dice.mode()};
}

Outcome run_chmod(World& world, const Call& call) {
  return outcome_of(chmod(world.full(call.path).c_str(), static_cast<mode_t>(call.number(0))));
}

void roll_fchmod(Dice& dice, Call& call) {
  call.slot = dice.slot();
  call.numbers = {dice.mode()};
}

Outcome run_fchmod(World& world, const Call& call) {
  return outcome_of(fchmod(fd_of(world, call), static_cast<mode_t>(call.number(0))));
}

std::vector<uint64_t> roll_owner(Dice& dice) {
  static const uint64_t kUsers[] = {~uint64_t{0}, ~uint64_t{0}, 0, 61001, 61002, 61003};
  static const uint64_t kGroups[] = {~uint64_t{0}, 0, 61001, 61002, 62001, 62002};
  return {dice.pick(kUsers), dice.pick(kGroups)};
}

void roll_chown(Dice& dice, Call& call) {
  roll_path(dice, call);
  call.numbers = roll_owner(dice);
}

Outcome run_chown(World& world, const Call& call) {
  return outcome_of(chown(world.full(call.path).c_str(), static_cast<uid_t>(call.number(0)),
                          static_cast<gid_t>(call.number(1))));
}

Outcome run_lchown(World& world, const Call& call) {
  return outcome_of(lchown(world.full(call.path).c_str(), static_cast<uid_t>(call.number(0)),
                           static_cast<gid_t>(call.number(1))));
}

void roll_fchown(Dice& dice, Call& call) {
  call.slot = dice.slot();
  call.numbers = roll_owner(dice);
}

Outcome run_fchown(World& world, const Call& call) {
  return outcome_of(fchown(fd_of(world, call), static_cast<uid_t>(call.number(0)),
                           static_cast<gid_t>(call.number(1))));
}

/// Seconds and nanoseconds of one time: from 1901 to 2446, as far as every kernel filesystem goes
/// (ext4 cuts off the nanoseconds of the very first and last second).
void roll_time(Dice& dice, Call& call) {
  static const uint64_t kSeconds[] = {0,
                                      1,
                                      static_cast<uint64_t>(-1),
                                      static_cast<uint64_t>(-2147483647LL),
                                      1'000'000'000,
                                      0x7fffffff,
                                      0x80000000,
                                      0xffffffff,
                                      0x100000000,
                                      15032385534};
  static const uint64_t kNanoseconds[] = {0,         1,          999'999'999, UTIME_NOW,
                                          UTIME_NOW, UTIME_OMIT, UTIME_OMIT,  123'456'789};
  call.numbers.push_back(dice.pick(kSeconds));
  call.numbers.push_back(dice.one_in(40) ? 1'000'000'000 : dice.pick(kNanoseconds));
}

void roll_utimens(Dice& dice, Call& call) {
  if (dice.one_in(4)) {
    call.slot = dice.slot();
  } else {
    roll_path(dice, call);
  }
  static const uint64_t kFlags[] = {0, 0, AT_SYMLINK_NOFOLLOW, 0x8000};
  call.numbers = {dice.one_in(6), call.slot >= 0 ? 0 : dice.pick(kFlags)};
  roll_time(dice, call);
  roll_time(dice, call);
}

Outcome run_utimens(World& world, const Call& call) {
  timespec times[2] = {};
  for (size_t i = 0; i < 2; ++i) {
    times[i].tv_sec = static_cast<time_t>(call.number(2 + 2 * i));
    times[i].tv_nsec = static_cast<long>(call.number(3 + 2 * i));
  }
  const timespec* given = call.number(0) != 0 ? nullptr : times;
  if (call.slot >= 0) return outcome_of(futimens(fd_of(world, call), given));
  return outcome_of(
      utimensat(AT_FDCWD, world.full(call.path).c_str(), given, static_cast<int>(call.number(1))));
}

void roll_truncate(Dice& dice, Call& call) {
  roll_path(dice, call);
  call.numbers = {dice.one_in(30) ? ~uint64_t{0} : dice.offset()};
}

Outcome run_truncate(World& world, const Call& call) {
  return outcome_of(truncate(world.full(call.path).c_str(), static_cast<off_t>(call.number(0))));
}

void roll_ftruncate(Dice& dice, Call& call) {
  call.slot = dice.slot();
  call.numbers = {dice.one_in(30) ? ~uint64_t{0} : dice.offset()};
}

Outcome run_ftruncate(World& world, const Call& call) {
  return outcome_of(ftruncate(fd_of(world, call), static_cast<off_t>(call.number(0))));
}

void roll_access(Dice& dice, Call& call) {
  static const uint64_t kFlags[] = {0, AT_SYMLINK_NOFOLLOW};
  roll_path(dice, call);
  call.numbers = {dice.below(8), dice.pick(kFlags)};
}

Outcome run_access(World& world, const Call& call) {
  return outcome_of(syscall(SYS_faccessat2, AT_FDCWD, world.full(call.path).c_str(), call.number(0),
                            call.number(1) | AT_EACCESS));
}

void roll_stat(Dice& dice, Call& call) {
  roll_path(dice, call);
  call.numbers = {dice.below(2)};
}

Outcome run_stat(World& world, const Call& call) {
  const Look look = look_at(world, AT_FDCWD, world.full(call.path), call.number(0) != 0);
  Outcome outcome;
  for (const auto& [name, value] : look.facts) {
    // These are compared anyway, as facts that have rules.
    if (name != "links" && name != "atime") outcome.text += name + "=" + value + " ";
  }
  return outcome;
}

Outcome run_statfs(World& world, const Call& call) {
  struct statvfs s {};
  Outcome outcome = outcome_of(statvfs(world.full(call.path).c_str(), &s));
  if (outcome.error == 0) {
    outcome.text = fmt::format("names of {} bytes, read-only {}, sane {}", s.f_namemax,
                               s.f_flag & ST_RDONLY, s.f_bfree <= s.f_blocks);
  }
  return outcome;
}

constexpr Kind kKinds[] = {
    {"chmod", 7, roll_chmod, run_chmod},          {"fchmod", 3, roll_fchmod, run_fchmod},
    {"chown", 5, roll_chown, run_chown},          {"lchown", 2, roll_chown, run_lchown},
    {"fchown", 2, roll_fchown, run_fchown},       {"utimensat", 6, roll_utimens, run_utimens},
    {"truncate", 4, roll_truncate, run_truncate}, {"ftruncate", 4, roll_ftruncate, run_ftruncate},
    {"faccessat2", 3, roll_access, run_access},   {"statx", 2, roll_stat, run_stat},
    {"statvfs", 1, roll_path, run_statfs},
};

}  // namespace

std::span<const Kind> attribute_kinds() {
  return kKinds;
}

}  // namespace differ
