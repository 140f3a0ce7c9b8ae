// SPDX-License-Identifier: MIT
// The whole tree as facts.
#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "test/e2e/differ/world.h"

namespace differ {
namespace {

constexpr off_t kLongestHashed = 4 << 20;

/// Data of a file, run by run, so that far-out files cost nothing.
std::string content_of(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
  if (fd < 0) return error_name(errno);
  std::string all;
  off_t at = 0;
  std::string buffer(1 << 16, '\0');
  while ((at = lseek(fd, at, SEEK_DATA)) >= 0 && all.size() < kLongestHashed) {
    const off_t end = lseek(fd, at, SEEK_HOLE);
    while (at < end) {
      const auto want = std::min<size_t>(buffer.size(), static_cast<size_t>(end - at));
      const ssize_t got = pread(fd, buffer.data(), want, at);
      if (got <= 0) break;
      // Zeros are skipped: the filesystems may differ in which zeros are holes.
      for (ssize_t i = 0; i < got; ++i) {
        if (buffer[static_cast<size_t>(i)] == 0) continue;
        const uint64_t offset = static_cast<uint64_t>(at + i);
        all.append(reinterpret_cast<const char*>(&offset), sizeof offset);
        all.push_back(buffer[static_cast<size_t>(i)]);
      }
      at += got;
    }
    if (at < end) break;
  }
  close(fd);
  return checksum(all);
}

std::string xattrs_of(const std::string& path) {
  std::string list(65536, '\0');
  const ssize_t size = llistxattr(path.c_str(), list.data(), list.size());
  if (size < 0) return error_name(errno);
  std::vector<std::string> all;
  for (size_t at = 0; at < static_cast<size_t>(size);) {
    const std::string name(list.c_str() + at);
    at += name.size() + 1;
    std::string value(65536, '\0');
    const ssize_t length = lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    value.resize(length < 0 ? 0 : static_cast<size_t>(length));
    all.push_back(name + "=" + (length < 0 ? error_name(errno) : checksum(value)));
  }
  std::sort(all.begin(), all.end());
  return fmt::format("{}", fmt::join(all, ", "));
}

class Walk {
 public:
  Walk(const World& world, Facts& facts) : world_(world), facts_(facts) {}

  void visit(const std::string& path, const std::string& shown) {
    const Look look = look_at(world_, AT_FDCWD, path, false);
    for (const auto& [name, value] : look.facts) facts_[shown + ": " + name] = value;
    if (!look.exists) return;
    const auto [first, is_new] = first_names_.try_emplace(look.ino, shown);
    if (!is_new) facts_[shown + ": same as"] = first->second;
    facts_[shown + ": xattrs"] = xattrs_of(path);
    const std::string& mode = look.facts.at("mode");
    if (mode.starts_with("04")) {
      enter(path, shown);
    } else if (mode.starts_with("10")) {
      facts_[shown + ": content"] = content_of(path);
    } else if (mode.starts_with("12")) {
      std::string target(4096, '\0');
      const ssize_t length = readlink(path.c_str(), target.data(), target.size());
      target.resize(length < 0 ? 0 : static_cast<size_t>(length));
      facts_[shown + ": target"] = checksum(target);
    }
  }

 private:
  void enter(const std::string& path, const std::string& shown) {
    const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOATIME | O_CLOEXEC);
    const std::unique_ptr<DIR, int (*)(DIR*)> directory(fd < 0 ? nullptr : fdopendir(fd), closedir);
    if (!directory) {
      facts_[shown + ": listing"] = error_name(errno);
      return;
    }
    std::vector<std::string> names;
    while (const dirent* entry = readdir(directory.get())) {
      const std::string name = entry->d_name;
      facts_[shown + "/" + name + ": type"] = fmt::format("{}", entry->d_type);
      if (name != "." && name != "..") names.push_back(name);
    }
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) visit(path + "/" + name, shown + "/" + name);
  }

  const World& world_;
  Facts& facts_;
  std::map<uint64_t, std::string> first_names_;
};

}  // namespace

Facts whole_tree(const World& world) {
  Facts facts;
  Walk(world, facts).visit(world.top + "/w", "");
  return facts;
}

}  // namespace differ
