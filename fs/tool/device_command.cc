// SPDX-License-Identifier: MIT
// moltfs device list: the devices of mounted filesystems. moltfs device probe: for the udev rule.
#include <string>
#include <vector>

#include "alloc/base/json.h"
#include "alloc/base/size_text.h"
#include "alloc/base/utf8.h"
#include "alloc/device/system_devices.h"
#include "fs/daemon/client.h"
#include "fs/daemon/find_device.h"
#include "fs/daemon/mounts.h"
#include "fs/tool/command_line.h"
#include "fs/tool/output.h"

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
    print("\n");
  }
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
  CommandLine app("Lists devices, or tells what is on one.", "moltfs device");
  CommandLine& list = app.add_subcommand("list",
                                         "print devid, size, uuid, path and errors of each device "
                                         "of mounted filesystems");
  std::vector<std::string> mountpoints;
  bool as_json = false;
  list.add_flag("--json", as_json, "a JSON list with an object for each filesystem");
  list.add_option("MOUNTPOINT", mountpoints, "default: all mounted filesystems");
  CommandLine& probe = app.add_subcommand("probe", "print what is on a device, for a udev rule");
  std::string path;
  probe.add_option("DEVICE", path).required();
  return app.run(argc, argv, [&] {
    if (probe.parsed()) return probe_device(path);
    if (mountpoints.empty()) {
      for (const auto& entry : daemon::moltfs_mounts()) mountpoints.push_back(entry.mountpoint);
    }
    return list_devices(mountpoints, as_json);
  });
}

}  // namespace moltfs::fs::tool
