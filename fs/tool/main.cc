// SPDX-License-Identifier: MIT
// The program: finds the command by the name it was called by, or by its first word.
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "alloc/base/log.h"
#include "fs/daemon/watchdog.h"
#include "fs/tool/tool.h"

namespace moltfs::fs::tool {

int fail(const char* noun, const Error& error) {
  fmt::print(stderr, "moltfs {}: {}\n", noun, error.message());
  return kExitCannotRun;
}

namespace {

struct Command {
  std::string_view name;
  int (*run)(int argc, char** argv);
  std::string_view summary;
};

constexpr Command kCommands[] = {
    {"mkfs", mkfs_command, "make a filesystem on devices or image files"},
    {"mount", mount_command, "mount one"},
    {"umount", umount_command, "unmount it and wait until its devices are free"},
    {"replace", replace_command, "put another device into the place of one, while mounted"},
    {"device", device_command, "list the devices of mounted filesystems"},
    {"usage", usage_command, "show how space is used"},
    {"sync", sync_command, "make durable all that was written so far"},
    {"label", label_command, "show or set the label"},
    {"check", check_command, "verify a filesystem that is not mounted"},
    {"dump", dump_command, "print what is on the devices"},
};

/// Other names of the program (links to it), which other programs call; the last is the daemon's
/// own.
constexpr Command kNames[] = {
    {"mkfs.moltfs", mkfs_command, ""},
    {"fsck.moltfs", fsck_command, ""},
    {"mount.moltfs", mount_helper, ""},
    {"mount.fuse.moltfs", mount_helper, ""},
    {"umount.moltfs", umount_helper, ""},
    {"umount.fuse.moltfs", umount_helper, ""},
    {"moltfs-watchdog", daemon::guard_connection, ""},
};

template <size_t N>
const Command* find(const Command (&commands)[N], std::string_view name) {
  for (const Command& command : commands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

void print_usage(FILE* to) {
  fmt::print(to,
             "moltfs {}: a filesystem whose devices can be replaced while it is in use\n\n"
             "usage: moltfs COMMAND ...        (moltfs COMMAND --help tells more)\n\n",
             MOLTFS_VERSION);
  for (const Command& command : kCommands) {
    fmt::print(to, "  {:<9} {}\n", command.name, command.summary);
  }
}

/// What goes well is for the log of the daemon, not for who runs a command.
void log_only_trouble() {
  set_log_sink([](LogLevel level, const std::string& text) {
    if (level <= LogLevel::warning) fmt::print(stderr, "moltfs: {}\n", text);
  });
}

int run(int argc, char** argv) {
  log_only_trouble();
  const std::string_view path = argv[0];
  const std::string_view name = path.substr(path.rfind('/') + 1);
  if (const Command* command = find(kNames, name)) return command->run(argc, argv);
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (word == "--version" || word == "-V") {
    fmt::print("moltfs {}\n", MOLTFS_VERSION);
    return kExitOk;
  }
  if (word == "--help" || word == "-h" || word == "help") {
    print_usage(stdout);
    return kExitOk;
  }
  if (const Command* command = find(kCommands, word)) return command->run(argc - 1, argv + 1);
  // As mount(8) calls it for "mount -t fuse.moltfs": moltfs DEVICE MOUNTPOINT -o OPTIONS
  if (argc >= 3 && !word.starts_with('-')) return mount_helper(argc, argv);
  if (!word.empty()) fmt::print(stderr, "moltfs: unknown command \"{}\"\n\n", word);
  print_usage(stderr);
  return kExitUsage;
}

}  // namespace
}  // namespace moltfs::fs::tool

int main(int argc, char** argv) {
  return argc < 1 ? moltfs::fs::tool::kExitUsage : moltfs::fs::tool::run(argc, argv);
}
