// SPDX-License-Identifier: MIT
// moltfs usage: the use of space of a mounted filesystem.
#include <string>

#include "alloc/base/json.h"
#include "alloc/base/size_text.h"
#include "alloc/base/utf8.h"
#include "fs/daemon/client.h"
#include "fs/tool/command_line.h"
#include "fs/tool/output.h"

namespace moltfs::fs::tool {
namespace {

void print_devices(const Json& usage) {
  uint64_t useless = 0;
  print("\n{:<6}{:>12}{:>12}{:>12}{:>12}{:>13}{:>12}  {}\n", "devid", "size", "data", "metadata",
        "used", "unallocated", "useless", "path");
  for (const Json& device : usage.elements("devices")) {
    const auto size = [&](const char* key) { return human_size(device.number(key)); };
    const uint64_t used = device.number("data_used_bytes") + device.number("metadata_used_bytes");
    print("{:<6}{:>12}{:>12}{:>12}{:>12}{:>13}{:>12}  {}{}\n", device.number("devid"),
          size("size_bytes"), size("data_chunk_bytes"), size("metadata_chunk_bytes"),
          human_size(used), size("unallocated_bytes"), size("useless_bytes"),
          printable(device.text("path")), device.text("state") == "out" ? "  (out)" : "");
    useless += device.number("useless_bytes");
  }
  if (useless > 0) {
    print("\nuseless: the other devices have too little space for the other copies\n");
  }
}

void print_profiles(const Json& usage) {
  for (const Json& profile : usage.elements("profiles")) {
    const auto size = [&](const char* key) { return human_size(profile.number(key)); };
    print("{:<13}{:>12}   in chunks, on {} of the devices; {} more would fit\n",
          profile.text("kind") + " " + profile.text("profile"), size("chunk_bytes"),
          size("device_bytes"), size("fits_bytes"));
  }
}

void print_usage_of(const Json& usage) {
  const auto size = [&](const char* key) { return human_size(usage.number(key)); };
  const std::string label = printable(usage.text("label"));
  print("volume       {}{}\n", usage.text("volume"), label.empty() ? "" : "  " + label);
  if (usage.flag("read_only")) {
    const std::string reason = printable(usage.text("read_only_reason"));
    print("read-only    {}\n", reason.empty() ? "mounted with ro" : reason);
  }
  if (const std::string why = printable(usage.text("commit_waits_for")); !why.empty()) {
    print("not durable  {}\n", why);
  }
  print("devices      {:>12}   outside chunks {}\n", size("device_bytes"),
        size("unallocated_bytes"));
  print("data         {:>12}   used of {} in chunks ({})\n", size("data_used_bytes"),
        size("data_chunk_bytes"), usage.text("data_profile"));
  print("metadata     {:>12}   used of {} in chunks ({})\n", size("metadata_used_bytes"),
        size("metadata_chunk_bytes"), usage.text("metadata_profile"));
  print("available    {:>12}   (free after the next commit: {} more)\n", size("available_bytes"),
        size("pinned_bytes"));
  print("inodes       {:>12}\n\n", usage.number("inodes"));
  print_profiles(usage);
  print_devices(usage);
}

int show(const std::string& path, bool as_json) {
  const auto client = daemon::Client::open(path);
  if (!client) return fail("usage", client.error());
  const auto usage = client.value().get_json("usage");
  if (!usage) return fail("usage", usage.error());
  if (as_json) {
    print("{}\n", usage.value().compact());
  } else {
    print_usage_of(usage.value());
  }
  return kExitOk;
}

}  // namespace

int usage_command(int argc, char** argv) {
  CommandLine app("Shows the use of space of a mounted filesystem.", "moltfs usage");
  std::string mountpoint;
  bool as_json = false;
  app.add_flag("--json", as_json, "one JSON object");
  app.add_option("MOUNTPOINT", mountpoint).required();
  return app.run(argc, argv, [&] { return show(mountpoint, as_json); });
}

}  // namespace moltfs::fs::tool
