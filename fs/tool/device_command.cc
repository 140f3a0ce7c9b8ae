// SPDX-License-Identifier: MIT
// moltfs device list: the devices of mounted filesystems. moltfs device online and offline: bring a
// device back, put one out. moltfs device probe: for the udev rule.
#include <string>
#include <vector>

#include "alloc/base/json.h"
#include "alloc/base/size_text.h"
#include "alloc/base/utf8.h"
#include "alloc/device/system_devices.h"
#include "fs/daemon/client.h"
#include "fs/daemon/device_path.h"
#include "fs/daemon/find_device.h"
#include "fs/daemon/mounts.h"
#include "fs/tool/command_line.h"
#include "fs/tool/degraded.h"
#include "fs/tool/output.h"
#include "fs/tool/replace_command.h"
#include "replace/command.h"

namespace moltfs::fs::tool {
namespace {

void print_devices(const std::string& mountpoint, const Json& answer) {
  const std::string label = printable(answer.text("label"));
  print("{}  {}{}\n", printable(mountpoint), answer.text("volume"),
        label.empty() ? "" : "  " + label);
  for (const Json& device : answer.elements("devices")) {
    print("  devid {:<3} {:>10}  {}  {}", device.number("devid"),
          human_size(device.number("size_bytes")), device.text("uuid"),
          printable(device.text("path")));
    const uint64_t errors = device.number("read_errors") + device.number("write_errors") +
                            device.number("flush_errors") + device.number("checksum_errors");
    if (errors != 0) {
      print("  errors: {} read, {} write, {} flush, {} checksum", device.number("read_errors"),
            device.number("write_errors"), device.number("flush_errors"),
            device.number("checksum_errors"));
    }
    if (device.text("state") == "out") print("  out");
    print("\n");
  }
  for (const std::string& line : degraded_lines(answer, mountpoint)) print("  {}\n", line);
}

/// The devices of the volume mounted on `path`.
Result<Json> devices_of(const std::string& path) {
  TRY(const auto client, daemon::Client::open(path));
  return client.get_json("devices");
}

int list_devices(std::vector<std::string> mountpoints, bool as_json) {
  int exit_code = kExitOk;
  Json all = Json::list();
  for (const std::string& mountpoint : mountpoints) {
    const auto answer = devices_of(mountpoint);
    if (!answer) {
      exit_code = fail("device", answer.error());
      continue;
    }
    if (as_json) {
      all.append(answer.value());
    } else {
      print_devices(mountpoint, answer.value());
    }
  }
  if (as_json) print("{}\n", all.pretty(1));
  return exit_code;
}

int bring_online(const std::string& device, const std::string& mountpoint, bool force, bool wait) {
  const auto client = daemon::Client::open(mountpoint);
  if (!client) return fail("device", client.error());
  replace::Command command;
  command.verb = replace::Command::Verb::online;
  command.online.device = device;
  command.online.force = force;
  // A path means what it means here: this process opens it.
  if (is_path(device)) command.online.path = daemon::absolute_path(device);
  const std::string text = replace::format_command(command);
  const auto done = command.online.path.empty()
                        ? client.value().set("replace", text)
                        : client.value().start_replace(text, command.online.path);
  if (!done) return fail("device", done.error());
  return wait ? follow_replace(client.value()) : kExitOk;
}

int take_offline(const std::string& device, const std::string& mountpoint) {
  const auto client = daemon::Client::open(mountpoint);
  if (!client) return fail("device", client.error());
  replace::Command command;
  command.verb = replace::Command::Verb::offline;
  command.offline = resolve_device(client.value(), device);
  const auto done = client.value().set("replace", replace::format_command(command));
  return done ? kExitOk : fail("device", done.error());
}

int probe_device(const std::string& path) {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  const auto properties = daemon::udev_properties(*opener, path);
  if (!properties) return fail("device", properties.error());
  print("{}", properties.value());
  return kExitOk;
}

}  // namespace

int device_command(int argc, char** argv) {
  CommandLine app("Lists devices, brings one back, puts one out, or tells what is on one.",
                  "moltfs device");
  CommandLine& list = app.add_subcommand("list",
                                         "print devid, size, uuid, path and errors of each device "
                                         "of mounted filesystems");
  std::vector<std::string> mountpoints;
  bool as_json = false;
  list.add_flag("--json", as_json, "a JSON list with an object for each filesystem");
  list.add_option("MOUNTPOINT", mountpoints, "default: all mounted filesystems");
  std::string device, mountpoint;
  bool force = false, wait = false;
  CommandLine& online = app.add_subcommand(
      "online", "bring back a device that is out: only what it missed is copied to it");
  online.add_flag("--force", force,
                  "if what it holds cannot be used: overwrite it and copy everything");
  online.add_flag("--wait", wait, "return when it has everything");
  online.add_option("DEVICE", device, "devid or uuid, or its path now").required();
  online.add_option("MOUNTPOINT", mountpoint).required();
  CommandLine& offline = app.add_subcommand(
      "offline", "put a device out; refused if it has the only copy of something");
  offline.add_option("DEVICE", device, "devid, path or uuid").required();
  offline.add_option("MOUNTPOINT", mountpoint).required();
  CommandLine& probe = app.add_subcommand("probe", "print what is on a device, for a udev rule");
  std::string path;
  probe.add_option("DEVICE", path).required();
  return app.run(argc, argv, [&] {
    if (probe.parsed()) return probe_device(path);
    if (online.parsed()) return bring_online(device, mountpoint, force, wait);
    if (offline.parsed()) return take_offline(device, mountpoint);
    if (mountpoints.empty()) {
      for (const auto& entry : daemon::moltfs_mounts()) mountpoints.push_back(entry.mountpoint);
    }
    return list_devices(mountpoints, as_json);
  });
}

}  // namespace moltfs::fs::tool
