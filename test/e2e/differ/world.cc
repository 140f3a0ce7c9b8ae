// SPDX-License-Identifier: MIT
// Identities, looks at inodes, the start of a life.
#include "test/e2e/differ/world.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

namespace differ {
namespace {

void require(bool good, const std::string& what) {
  if (good) return;
  fprintf(stderr, "differ: %s: %s\n", what.c_str(), strerror(errno));
  exit(2);
}

// The system calls themselves: this program has one thread, and glibc would care for all.
void become(uid_t uid, gid_t gid, const std::vector<gid_t>& groups) {
  require(syscall(SYS_setresuid, -1, 0, -1) == 0, "setresuid");
  require(syscall(SYS_setgroups, groups.size(), groups.data()) == 0, "setgroups");
  require(syscall(SYS_setresgid, -1, gid, -1) == 0, "setresgid");
  require(syscall(SYS_setresuid, -1, uid, -1) == 0, "setresuid");
}

std::string time_fact(const World& world, int64_t seconds, uint32_t nanoseconds) {
  if (seconds >= world.started - 10 && seconds <= time(nullptr) + 10) return "recent";
  return fmt::format("{}.{:09}", seconds, nanoseconds);
}

}  // namespace

const std::vector<Identity>& identities() {
  static const std::vector<Identity> all = {
      {"root", 0, 0, {}},
      {"ann", 61001, 61001, {61001, 62001}},
      {"ben", 61002, 61002, {62001, 62002}},
      {"cid", 61003, 62002, {}},
  };
  return all;
}

World::World(std::string mount_point) : mount(std::move(mount_point)) {
  fds.fill(-1);
  mount_fd = open(mount.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  require(mount_fd >= 0, mount);
}

World::~World() {
  for (int slot = 0; slot < kSlots; ++slot) put(slot, -1);
  if (mount_fd >= 0) close(mount_fd);
}

void World::put(int slot, int fd) {
  int& place = fds.at(static_cast<size_t>(slot));
  if (place >= 0) close(place);
  place = fd;
}

void World::begin(unsigned life) {
  for (int slot = 0; slot < kSlots; ++slot) put(slot, -1);
  handles.fill({});
  if (!top.empty()) std::filesystem::remove_all(top);
  top = fmt::format("{}/differ.{}", mount, life);
  root = top + "/w/t";
  umask(022);
  require(mkdir(top.c_str(), 0755) == 0, top);
  require(mkdir((top + "/w").c_str(), 0755) == 0, top);
  require(mkdir(root.c_str(), 0777) == 0 && chmod(root.c_str(), 0777) == 0, root);
  started = time(nullptr);
}

Acting::Acting(unsigned user, unsigned mask) : umask_before_(umask(mask)) {
  const Identity& who = identities().at(user);
  become(who.uid, who.gid, who.groups);
}

Acting::~Acting() {
  become(0, 0, {});
  umask(umask_before_);
}

std::string error_name(int error) {
  if (error == 0) return "ok";
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : fmt::format("errno {}", error);
}

std::string checksum(const std::string& bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{} bytes {:016x}", bytes.size(), hash);
}

Look look_at(const World& world, int fd, const std::string& path, bool follow) {
  struct statx s {};
  const int flags = path.empty() ? AT_EMPTY_PATH : follow ? 0 : AT_SYMLINK_NOFOLLOW;
  Look look;
  if (statx(fd, path.c_str(), flags, STATX_BASIC_STATS | STATX_BTIME, &s) != 0) {
    look.facts["stat"] = error_name(errno);
    return look;
  }
  look.exists = true;
  look.ino = s.stx_ino;
  const statx_timestamp* const times[] = {&s.stx_atime, &s.stx_mtime, &s.stx_ctime, &s.stx_btime};
  static const char* const kNames[] = {"atime", "mtime", "ctime", "btime"};
  for (size_t i = 0; i < 4; ++i) {
    look.times[i] = {times[i]->tv_sec, times[i]->tv_nsec};
    look.facts[kNames[i]] = time_fact(world, times[i]->tv_sec, times[i]->tv_nsec);
  }
  look.facts["mode"] = fmt::format("{:06o}", s.stx_mode);
  look.facts["links"] = fmt::format("{}", s.stx_nlink);
  look.facts["owner"] = fmt::format("{}:{}", s.stx_uid, s.stx_gid);
  if (!S_ISDIR(s.stx_mode)) look.facts["size"] = fmt::format("{}", s.stx_size);
  if (S_ISCHR(s.stx_mode) || S_ISBLK(s.stx_mode)) {
    look.facts["device"] = fmt::format("{}:{}", s.stx_rdev_major, s.stx_rdev_minor);
  }
  return look;
}

namespace {

bool same_inode(const Look& before, const Look& after) {
  return before.exists && after.exists && before.ino == after.ino;
}

bool within_ticks(const std::pair<int64_t, uint32_t>& a, const std::pair<int64_t, uint32_t>& b) {
  if (a == b || a.first - b.first > 1 || b.first - a.first > 1) return false;
  const int64_t apart = (a.first - b.first) * 1'000'000'000 + int64_t{a.second} - int64_t{b.second};
  return std::abs(apart) < 12'000'000;
}

}  // namespace

std::string moved(const Look& before, const Look& after) {
  if (!same_inode(before, after)) return "";
  std::string which;
  for (size_t i = 1; i < 4; ++i) {
    if (before.times[i] != after.times[i]) which += "amcb"[i];
  }
  return which.empty() ? "none" : which;
}

std::string accessed(const Look& before, const Look& after) {
  if (!same_inode(before, after)) return kUnclear;
  const auto& [access, modify, change, birth] = before.times;
  if (within_ticks(access, modify) || within_ticks(access, change)) return kUnclear;
  return access == after.times[0] ? "no" : "yes";
}

}  // namespace differ
