// SPDX-License-Identifier: MIT
// A world: one of the two filesystems, with what calls leave open in it; and what can be seen of
// it.
//
//   MNT/differ.N/w/t      t is the root of all paths; symlinks can lead up into w, no further
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace differ {

inline constexpr int kSlots = 4;

/// Who makes a call: effective ids and supplementary groups.
struct Identity {
  const char* name;
  uid_t uid;
  gid_t gid;
  std::vector<gid_t> groups;
};
const std::vector<Identity>& identities();

/// What can be compared of a call: names of facts and what they say.
using Facts = std::map<std::string, std::string>;

/// What a call gave.
struct Outcome {
  int error = 0;  ///< an errno
  int64_t value = 0;
  std::string text;  ///< what it gave beside
};

struct Handle {
  int type = 0;
  std::string bytes;
};

struct World {
  explicit World(std::string mount_point);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  /// Leaves nothing open and makes a fresh, empty tree.
  void begin(unsigned life);
  std::string full(const std::string& path) const { return root + "/" + path; }
  /// Puts a descriptor (or -1) into a slot; what was there is closed.
  void put(int slot, int fd);

  const std::string mount;
  std::string top, root;
  int mount_fd = -1;
  std::array<int, kSlots> fds{};
  std::array<Handle, 4> handles{};
  int64_t started = 0;  ///< of this life, seconds
};

/// Acts as one of the identities for a scope.
class Acting {
 public:
  Acting(unsigned user, unsigned umask);
  ~Acting();
  Acting(const Acting&) = delete;
  Acting& operator=(const Acting&) = delete;

 private:
  mode_t umask_before_;
};

/// An outcome from what a system call returned.
template <class T>
Outcome outcome_of(T returned) {
  if (returned >= 0) return {0, static_cast<int64_t>(returned), ""};
  return {errno, -1, ""};
}

std::string error_name(int error);
std::string checksum(const std::string& bytes);

/// Of one inode: what statx says.
struct Look {
  bool exists = false;
  uint64_t ino = 0;
  std::array<std::pair<int64_t, uint32_t>, 4> times{};  ///< access, modify, change, birth
  Facts facts;
};
Look look_at(const World& world, int fd, const std::string& path, bool follow);
/// Which of mtime, ctime, btime moved from one look to another.
std::string moved(const Look& before, const Look& after);
/// Whether atime did: "yes", "no", or kUnclear where it lies within a tick of mtime or ctime, so
/// that relatime's answer hangs on the clock.
inline constexpr const char* kUnclear = "unclear";
std::string accessed(const Look& before, const Look& after);

/// Everything under the world's w: attributes, content, extended attributes, which names are one
/// inode.
Facts whole_tree(const World& world);

}  // namespace differ
