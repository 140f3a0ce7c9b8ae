// SPDX-License-Identifier: MIT
// realpath(3) where names are not enough.
#include "fs/daemon/device_path.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <optional>

#include "alloc/base/descriptor.h"
#include "fs/daemon/find_device.h"

namespace moltfs::fs::daemon {
namespace {

std::optional<std::string> resolved(const std::string& path) {
  char* const real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return std::nullopt;
  std::string result = real;
  free(real);
  return result;
}

/// Without "." and repeated slashes; those at the end stay, they ask for a directory.
std::string without_dots(const std::string& path) {
  std::string tidy;
  for (size_t at = 0; at < path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    const std::string_view name = std::string_view(path).substr(at, end - at);
    const bool is_last = path.find_first_not_of('/', end) == std::string::npos;
    if (!name.empty() && (name != "." || is_last)) tidy += fmt::format("/{}", name);
    at = end + 1;
  }
  if (tidy.empty()) return "/";
  return path.ends_with('/') ? tidy + "/" : tidy;
}

bool has_name(const std::string& path, std::string_view name) {
  return (path + "/").find(fmt::format("/{}/", name)) != std::string::npos;
}

struct Split {
  std::string directory, name;
};

/// REQUIRES: `path` is absolute.
Split split(const std::string& path) {
  const size_t last = path.find_last_not_of('/');
  if (last == std::string::npos) return {"/", "."};
  const size_t slash = path.rfind('/', last);
  return {path.substr(0, slash + 1), path.substr(slash + 1)};
}

/// If `path`, or a link that it leads to, lies in /proc: its name there, which begins with the
/// number of a process ("/proc/123/fd/4").
std::optional<std::string> name_in_proc(std::string path) {
  constexpr unsigned kMaxLinks = 40;
  for (unsigned i = 0; i < kMaxLinks; ++i) {
    const auto [directory, name] = split(path);
    const auto real = resolved(directory);
    if (!real) return std::nullopt;
    if ((*real + "/").starts_with("/proc/")) return fmt::format("{}/{}", *real, name);
    char target[PATH_MAX];
    const ssize_t length = readlink((directory + name).c_str(), target, sizeof target);
    if (length <= 0) return std::nullopt;
    path.assign(target, static_cast<size_t>(length));
    if (!path.starts_with('/')) path = *real + "/" + path;
  }
  return std::nullopt;
}

/// The path of the file that is open at `name`, a name in /proc. A file that was deleted keeps a
/// path that leads nowhere.
std::string path_of_file(const std::string& name) {
  const Descriptor fd(open(name.c_str(), O_PATH | O_CLOEXEC));
  char target[PATH_MAX];
  const std::string link = fmt::format("/proc/self/fd/{}", fd.get());
  const ssize_t length = fd ? readlink(link.c_str(), target, sizeof target) : -1;
  return length > 0 ? std::string(target, static_cast<size_t>(length)) : name;
}

}  // namespace

std::string absolute_path(const std::string& path) {
  if (is_tag(path) || path.empty()) return path;
  std::string absolute = path;
  if (!path.starts_with('/')) {
    char directory[PATH_MAX];
    if (getcwd(directory, sizeof directory) == nullptr) return path;
    absolute = fmt::format("{}/{}", directory, path);
  }
  absolute = without_dots(absolute);
  if (const auto name = name_in_proc(absolute)) return path_of_file(*name);
  if (!has_name(absolute, "..")) return absolute;
  const auto [directory, name] = split(absolute);
  if (name.starts_with("..") && name.find_first_not_of("./") == std::string::npos) {
    return resolved(absolute).value_or(absolute);
  }
  const auto real = resolved(directory);
  if (!real) return absolute;
  return *real == "/" ? "/" + name : *real + "/" + name;
}

}  // namespace moltfs::fs::daemon
