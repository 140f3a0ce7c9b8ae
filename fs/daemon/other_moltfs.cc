// SPDX-License-Identifier: MIT
// getxattr of the root of a mount that is open already.
#include "fs/daemon/other_moltfs.h"

#include <fmt/format.h>
#include <sys/xattr.h>

#include <optional>

#include "alloc/base/json.h"
#include "alloc/device/open_path.h"
#include "fs/mount/control.h"

namespace moltfs::fs::daemon {
namespace {

std::optional<Json> ask(int root, const char* endpoint) {
  const std::string path = fmt::format("/proc/self/fd/{}", root);
  const std::string name = fmt::format("{}{}", kControlPrefix, endpoint);
  std::string text(65536, '\0');
  const ssize_t size = getxattr(path.c_str(), name.c_str(), text.data(), text.size());
  if (size <= 0) return std::nullopt;
  return Json::parse(std::string_view(text).substr(0, static_cast<size_t>(size)));
}

}  // namespace

std::vector<std::string> devices_of_moltfs(const std::string& mountpoint) {
  std::vector<std::string> paths;
  const auto root = alloc::open_path(mountpoint);
  if (!root) return paths;
  if (const auto answer = ask(root.value().get(), "devices")) {
    for (const Json& device : answer->elements("devices")) paths.push_back(device.text("path"));
  }
  if (const auto answer = ask(root.value().get(), "replace")) {
    const std::string state = answer->text("state");
    const bool has_target = state == "armed" || state == "copying" || state == "finishing";
    if (has_target) paths.push_back(answer->text("target.path"));
  }
  return paths;
}

}  // namespace moltfs::fs::daemon
