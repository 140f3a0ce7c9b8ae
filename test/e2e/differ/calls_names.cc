// SPDX-License-Identifier: MIT
// Calls on names: make, link, remove, rename, list.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

#include "test/e2e/differ/call.h"
#include "test/e2e/differ/world.h"

namespace differ {
namespace {

void roll_path(Dice& dice, Call& call) {
  call.path = dice.path();
  call.has_path = true;
}

void roll_two_paths(Dice& dice, Call& call) {
  roll_path(dice, call);
  call.other = dice.one_in(3) ? dice.path() : dice.new_path();
  call.has_other = true;
}

void roll_new_path(Dice& dice, Call& call) {
  call.path = dice.new_path();
  call.has_path = true;
}

void roll_mkdir(Dice& dice, Call& call) {
  call.path = dice.new_path(true);
  call.has_path = true;
  call.numbers = {dice.mode()};
}

/// An open that cannot block: fifos are opened without waiting for the other end.
uint64_t roll_open_flags(Dice& dice) {
  static const uint64_t kAccess[] = {O_RDONLY, O_WRONLY, O_RDWR, O_RDWR, O_RDWR, O_ACCMODE};
  uint64_t flags = dice.pick(kAccess) | O_NONBLOCK | O_CLOEXEC;
  if (dice.one_in(2)) flags |= O_CREAT;
  if (dice.one_in(10)) flags |= O_EXCL;
  if (dice.one_in(5)) flags |= O_TRUNC;
  if (dice.one_in(5)) flags |= O_APPEND;
  if (dice.one_in(12)) flags |= O_DIRECTORY;
  if (dice.one_in(8)) flags |= O_NOFOLLOW;
  if (dice.one_in(10)) flags |= O_NOATIME;
  if (dice.one_in(30)) flags |= dice.one_in(2) ? O_SYNC : O_DSYNC;
  if (dice.one_in(15)) flags |= O_PATH;
  return flags;
}

void roll_open(Dice& dice, Call& call) {
  const uint64_t flags = roll_open_flags(dice);
  if ((flags & O_CREAT) != 0 && dice.one_in(2)) {
    roll_new_path(dice, call);
  } else {
    roll_path(dice, call);
  }
  call.slot = dice.slot();
  call.numbers = {dice.mode(), flags};
}

Outcome opened(World& world, const Call& call, int fd) {
  const Outcome outcome = outcome_of(fd);
  if (fd >= 0) world.put(call.slot, fd);
  return {outcome.error, 0, ""};
}

Outcome run_open(World& world, const Call& call) {
  return opened(world, call,
                open(world.full(call.path).c_str(), static_cast<int>(call.number(1)),
                     static_cast<mode_t>(call.number(0))));
}

void roll_tmpfile(Dice& dice, Call& call) {
  roll_path(dice, call);
  call.slot = dice.slot();
  call.numbers = {dice.mode()};
  static const uint64_t kAccess[] = {O_WRONLY, O_RDWR, O_RDWR, O_RDONLY};
  call.numbers.push_back(dice.pick(kAccess) | O_TMPFILE | O_CLOEXEC |
                         (dice.one_in(4) ? O_EXCL : 0));
}

void roll_slot(Dice& dice, Call& call) {
  call.slot = dice.slot();
}

Outcome run_close(World& world, const Call& call) {
  world.put(call.slot, -1);
  return {};
}

Outcome run_creat(World& world, const Call& call) {
  return opened(
      world, call,
      open(world.full(call.path).c_str(), O_CREAT | O_WRONLY | O_TRUNC | O_NONBLOCK | O_CLOEXEC,
           static_cast<mode_t>(call.number(0))));
}

void roll_creat(Dice& dice, Call& call) {
  roll_new_path(dice, call);
  call.numbers = {dice.mode()};
  call.slot = dice.slot();
}

Outcome run_mkdir(World& world, const Call& call) {
  return outcome_of(mkdir(world.full(call.path).c_str(), static_cast<mode_t>(call.number(0))));
}

void roll_mknod(Dice& dice, Call& call) {
  static const uint64_t kTypes[] = {S_IFREG,  0,       S_IFIFO, S_IFIFO,
                                    S_IFSOCK, S_IFCHR, S_IFBLK, S_IFDIR};
  static const uint64_t kDevices[] = {makedev(1, 3), makedev(240, 77), makedev(4095, 1048575), 0};
  roll_new_path(dice, call);
  call.numbers = {dice.pick(kTypes) | dice.mode(), dice.pick(kDevices)};
}

Outcome run_mknod(World& world, const Call& call) {
  return outcome_of(mknod(world.full(call.path).c_str(), static_cast<mode_t>(call.number(0)),
                          static_cast<dev_t>(call.number(1))));
}

void roll_symlink(Dice& dice, Call& call) {
  static const char* const kTargets[] = {"a",   "b",      "c/d",     "../c",
                                         "./d", "c/../a", "missing", "../b/a"};
  roll_new_path(dice, call);
  call.bytes = dice.pick(kTargets);
  if (dice.one_in(40)) call.bytes = std::string(dice.one_in(2) ? 1000 : 4096, 's');
  if (dice.one_in(60)) call.bytes = "";
}

Outcome run_symlink(World& world, const Call& call) {
  return outcome_of(symlink(call.bytes.c_str(), world.full(call.path).c_str()));
}

Outcome run_readlink(World& world, const Call& call) {
  std::string target(call.number(0), '\0');
  Outcome outcome =
      outcome_of(readlink(world.full(call.path).c_str(), target.data(), target.size()));
  if (outcome.error == 0) {
    target.resize(static_cast<size_t>(outcome.value));
    outcome.text = checksum(target);
  }
  return outcome;
}

void roll_readlink(Dice& dice, Call& call) {
  static const uint64_t kSizes[] = {4096, 4096, 1, 3};
  roll_path(dice, call);
  call.numbers = {dice.pick(kSizes)};
}

void roll_link(Dice& dice, Call& call) {
  static const uint64_t kFlags[] = {0, 0, 0, AT_SYMLINK_FOLLOW, AT_SYMLINK_FOLLOW, 0x8000};
  roll_two_paths(dice, call);
  call.numbers = {dice.pick(kFlags)};
}

Outcome run_link(World& world, const Call& call) {
  return outcome_of(linkat(AT_FDCWD, world.full(call.path).c_str(), AT_FDCWD,
                           world.full(call.other).c_str(), static_cast<int>(call.number(0))));
}

void roll_link_slot(Dice& dice, Call& call) {
  call.slot = dice.slot();
  call.other = dice.new_path();
  call.has_other = true;
}

/// Also what gives an O_TMPFILE its name.
Outcome run_link_slot(World& world, const Call& call) {
  const std::string from =
      fmt::format("/proc/self/fd/{}", world.fds[static_cast<size_t>(call.slot)]);
  return outcome_of(
      linkat(AT_FDCWD, from.c_str(), AT_FDCWD, world.full(call.other).c_str(), AT_SYMLINK_FOLLOW));
}

void roll_rename(Dice& dice, Call& call) {
  static const uint64_t kFlags[] = {RENAME_NOREPLACE,
                                    RENAME_EXCHANGE,
                                    RENAME_EXCHANGE,
                                    RENAME_WHITEOUT,
                                    RENAME_WHITEOUT | RENAME_NOREPLACE,
                                    RENAME_EXCHANGE | RENAME_NOREPLACE,
                                    RENAME_EXCHANGE | RENAME_WHITEOUT,
                                    8};
  roll_two_paths(dice, call);
  call.numbers = {dice.one_in(2) ? 0 : dice.pick(kFlags)};
}

Outcome run_rename(World& world, const Call& call) {
  return outcome_of(syscall(SYS_renameat2, AT_FDCWD, world.full(call.path).c_str(), AT_FDCWD,
                            world.full(call.other).c_str(), call.number(0)));
}

Outcome run_unlink(World& world, const Call& call) {
  return outcome_of(unlink(world.full(call.path).c_str()));
}

Outcome run_rmdir(World& world, const Call& call) {
  return outcome_of(rmdir(world.full(call.path).c_str()));
}

Outcome run_list(World& world, const Call& call) {
  DIR* directory = opendir(world.full(call.path).c_str());
  if (directory == nullptr) return {errno, -1, ""};
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(directory)) {
    names.push_back(fmt::format("{}:{}", entry->d_name, entry->d_type));
  }
  const int error = errno;
  closedir(directory);
  std::sort(names.begin(), names.end());
  return {error, static_cast<int64_t>(names.size()), fmt::format("{}", fmt::join(names, " "))};
}

constexpr Kind kKinds[] = {
    {"open", 16, roll_open, run_open},
    {"open O_TMPFILE", 2, roll_tmpfile, run_open},
    {"creat", 6, roll_creat, run_creat},
    {"close", 3, roll_slot, run_close},
    {"mkdir", 12, roll_mkdir, run_mkdir},
    {"mknod", 5, roll_mknod, run_mknod},
    {"symlink", 3, roll_symlink, run_symlink},
    {"readlink", 2, roll_readlink, run_readlink},
    {"linkat", 6, roll_link, run_link},
    {"linkat of a descriptor", 2, roll_link_slot, run_link_slot},
    {"renameat2", 11, roll_rename, run_rename},
    {"unlink", 4, roll_path, run_unlink},
    {"rmdir", 3, roll_path, run_rmdir},
    {"list", 3, roll_path, run_list},
};

}  // namespace

std::span<const Kind> name_kinds() {
  return kKinds;
}

}  // namespace differ
