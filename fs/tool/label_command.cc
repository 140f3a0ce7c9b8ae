// SPDX-License-Identifier: MIT
// moltfs label: shows or sets the label of a filesystem, mounted or not.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <string>

#include "alloc/base/utf8.h"
#include "alloc/device/system_devices.h"
#include "alloc/disk/peek.h"
#include "alloc/disk/volume_settings.h"
#include "fs/daemon/client.h"
#include "fs/mount/mount.h"
#include "fs/tool/command_line.h"
#include "fs/tool/output.h"

namespace moltfs::fs::tool {
namespace {

bool is_directory(const std::string& path) {
  struct stat s {};
  return stat(path.c_str(), &s) == 0 && S_ISDIR(s.st_mode);
}

Result<std::string> label_of_device(const std::string& path) {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  TRY(const auto device, alloc::open_shared(*opener, path));
  const auto super = alloc::read_superblock(opener->engine(), *device);
  if (super) return super.value().label;
  return Error(super.error().code, fmt::format("{}: {}", path, super.error().message()));
}

Result<void> set_label_of_device(const std::string& path, const std::string& label) {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  TRY(auto mount, Mount::open(runtime, *opener, {path}, {}));
  mount->volume().set_label(label);
  TRY(mount->transactions().commit(true));
  return mount->close();
}

Result<std::string> show(const std::string& path) {
  if (!is_directory(path)) return label_of_device(path);
  TRY(const auto client, daemon::Client::open(path));
  return client.get("label");
}

Result<void> set(const std::string& path, const std::string& label) {
  TRY(alloc::check_label(label));
  if (!is_directory(path)) return set_label_of_device(path, label);
  TRY(const auto client, daemon::Client::open(path));
  return client.set("label", label);
}

}  // namespace

int label_command(int argc, char** argv) {
  CommandLine app("Shows the label of a filesystem, or sets it.", "moltfs label");
  std::string path;
  std::optional<std::string> label;
  app.add_option("MOUNTPOINT|DEVICE", path).required();
  app.add_option("NEW", label, "the new label; \"\" removes it");
  return app.run(argc, argv, [&] {
    if (label) {
      const auto done = set(path, *label);
      return done ? kExitOk : fail("label", done.error());
    }
    const auto shown = show(path);
    if (!shown) return fail("label", shown.error());
    // A script gets the label byte by byte. A terminal must not obey it.
    const bool is_terminal = isatty(STDOUT_FILENO) == 1;
    if (is_terminal) {
      print("{}\n", printable(shown.value()));
    } else {
      write_bytes(shown.value() + "\n");
    }
    return kExitOk;
  });
}

}  // namespace moltfs::fs::tool
