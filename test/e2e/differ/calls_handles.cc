// SPDX-License-Identifier: MIT
// File handles, locks and leases.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "test/e2e/differ/call.h"
#include "test/e2e/differ/world.h"

namespace differ {
namespace {

int fd_of(const World& world, const Call& call) {
  return world.fds[static_cast<size_t>(call.slot)];
}

struct FreeDeleter {
  void operator()(file_handle* handle) const { free(handle); }
};
using HandleBuffer = std::unique_ptr<file_handle, FreeDeleter>;

HandleBuffer handle_buffer() {
  HandleBuffer buffer(static_cast<file_handle*>(calloc(1, sizeof(file_handle) + MAX_HANDLE_SZ)));
  buffer->handle_bytes = MAX_HANDLE_SZ;
  return buffer;
}

void roll_name_to_handle(Dice& dice, Call& call) {
  call.path = dice.path();
  call.has_path = true;
  call.numbers = {dice.below(4), dice.one_in(2) ? uint64_t{AT_SYMLINK_FOLLOW} : 0};
}

Outcome run_name_to_handle(World& world, const Call& call) {
  const HandleBuffer buffer = handle_buffer();
  int mount_id = 0;
  const Outcome outcome =
      outcome_of(name_to_handle_at(AT_FDCWD, world.full(call.path).c_str(), buffer.get(), &mount_id,
                                   static_cast<int>(call.number(1))));
  if (outcome.error == 0) {
    Handle& handle = world.handles.at(call.number(0));
    handle.type = buffer->handle_type;
    handle.bytes.assign(reinterpret_cast<const char*>(buffer->f_handle), buffer->handle_bytes);
  }
  return {outcome.error, 0, ""};
}

void roll_open_by_handle(Dice& dice, Call& call) {
  static const uint64_t kFlags[] = {O_RDONLY, O_RDWR, O_PATH};
  call.slot = dice.slot();
  call.numbers = {dice.below(4), dice.pick(kFlags) | O_NONBLOCK | O_CLOEXEC};
}

/// The kernel releases a FUSE file some time after the last close. Until then a handle still opens a
/// removed file. If it does so for longer, the file is open in some process.
int open_after_release(int mount_fd, file_handle* handle, int flags) {
  constexpr int kTries = 10;
  constexpr useconds_t kMomentMicroseconds = 20'000;
  for (int i = 0;; ++i) {
    const int fd = open_by_handle_at(mount_fd, handle, flags);
    struct stat s {};
    if (fd < 0 || i == kTries || fstat(fd, &s) != 0 || s.st_nlink != 0) return fd;
    close(fd);
    usleep(kMomentMicroseconds);
  }
}

Outcome run_open_by_handle(World& world, const Call& call) {
  const Handle& handle = world.handles.at(call.number(0));
  if (handle.bytes.empty()) return {};
  const HandleBuffer buffer = handle_buffer();
  buffer->handle_type = handle.type;
  buffer->handle_bytes = static_cast<unsigned>(handle.bytes.size());
  memcpy(buffer->f_handle, handle.bytes.data(), handle.bytes.size());
  const int fd = open_after_release(world.mount_fd, buffer.get(), static_cast<int>(call.number(1)));
  const Outcome outcome = outcome_of(fd);
  if (fd >= 0) world.put(call.slot, fd);
  return {outcome.error, 0, ""};
}

void roll_flock(Dice& dice, Call& call) {
  static const uint64_t kHow[] = {LOCK_SH, LOCK_EX, LOCK_UN};
  call.slot = dice.slot();
  call.numbers = {dice.pick(kHow) | LOCK_NB};
}

Outcome run_flock(World& world, const Call& call) {
  return outcome_of(flock(fd_of(world, call), static_cast<int>(call.number(0))));
}

void roll_lock(Dice& dice, Call& call) {
  static const uint64_t kTypes[] = {F_RDLCK, F_WRLCK, F_UNLCK};
  static const uint64_t kCommands[] = {F_OFD_SETLK, F_OFD_SETLK, F_OFD_GETLK, F_SETLK};
  call.slot = dice.slot();
  call.numbers = {dice.pick(kCommands), dice.pick(kTypes), dice.below(100), dice.below(100)};
}

Outcome run_lock(World& world, const Call& call) {
  struct flock lock {};
  lock.l_type = static_cast<short>(call.number(1));
  lock.l_whence = SEEK_SET;
  lock.l_start = static_cast<off_t>(call.number(2));
  lock.l_len = static_cast<off_t>(call.number(3));
  Outcome outcome = outcome_of(fcntl(fd_of(world, call), static_cast<int>(call.number(0)), &lock));
  outcome.text = fmt::format("{} {} {}", lock.l_type, lock.l_start, lock.l_len);
  return outcome;
}

void roll_lease(Dice& dice, Call& call) {
  static const uint64_t kTypes[] = {F_RDLCK, F_WRLCK};
  call.slot = dice.slot();
  call.numbers = {dice.pick(kTypes)};
}

/// Given back at once: a lease makes later calls of this one program wait for itself.
Outcome run_lease(World& world, const Call& call) {
  const int fd = fd_of(world, call);
  Outcome outcome = outcome_of(fcntl(fd, F_SETLEASE, static_cast<int>(call.number(0))));
  const int held = fcntl(fd, F_GETLEASE);
  const int given_back = fcntl(fd, F_SETLEASE, F_UNLCK);
  outcome.text = fmt::format("held {} given back {}", held, given_back);
  return outcome;
}

constexpr Kind kKinds[] = {
    {"name_to_handle_at", 2, roll_name_to_handle, run_name_to_handle},
    {"open_by_handle_at", 2, roll_open_by_handle, run_open_by_handle},
    {"flock", 2, roll_flock, run_flock},
    {"fcntl lock", 2, roll_lock, run_lock},
    {"fcntl F_SETLEASE", 1, roll_lease, run_lease},
};

}  // namespace

std::span<const Kind> handle_kinds() {
  return kKinds;
}

}  // namespace differ
