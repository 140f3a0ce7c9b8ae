// SPDX-License-Identifier: MIT
// The program. The name it is called by, or else its first word, selects the command.
#include <fmt/format.h>

#include <new>
#include <string>
#include <string_view>
#include <system_error>

#include "alloc/base/log.h"
#include "alloc/base/utf8.h"
#include "fs/daemon/broker_server.h"
#include "fs/daemon/inherited.h"
#include "fs/daemon/watchdog.h"
#include "fs/tool/output.h"
#include "fs/tool/tool.h"

namespace moltfs::fs::tool {

int fail(const char* noun, const Error& error) {
  print_error("moltfs {}: {}\n", noun, printable(error.message()));
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
    {"mount", mount_command, "mount a filesystem"},
    {"umount", umount_command, "unmount a filesystem and wait until its devices are free"},
    {"replace", replace_command, "replace a device by another one, while mounted"},
    {"device", device_command, "list the devices of mounted filesystems"},
    {"usage", usage_command, "show how space is used"},
    {"sync", sync_command, "make everything written so far durable"},
    {"label", label_command, "show or set the label"},
    {"check", check_command, "verify a filesystem that is not mounted"},
    {"dump", dump_command, "print what is on the devices"},
};

/// Names of links to the program, by which other programs call it. By the last two, the
/// daemon does.
constexpr Command kNames[] = {
    {"mkfs.moltfs", mkfs_command, ""},
    {"fsck.moltfs", fsck_command, ""},
    {"mount.moltfs", mount_helper, ""},
    {"mount.fuse.moltfs", mount_helper, ""},
    {"umount.moltfs", umount_helper, ""},
    {"umount.fuse.moltfs", umount_helper, ""},
    {"moltfs-watchdog", daemon::guard_connection, ""},
    {"moltfs-broker", daemon::run_broker, ""},
};

template <size_t N>
const Command* find(const Command (&commands)[N], std::string_view name) {
  for (const Command& command : commands) {
    if (command.name == name) return &command;
  }
  return nullptr;
}

std::string usage_text() {
  std::string text = fmt::format(
      "moltfs {}: a filesystem whose devices can be replaced while it is in use\n\n"
      "usage: moltfs COMMAND ...        (see moltfs COMMAND --help)\n\n",
      MOLTFS_VERSION);
  for (const Command& command : kCommands) {
    text += fmt::format("  {:<9} {}\n", command.name, command.summary);
  }
  return text;
}

/// Commands print warnings and errors only. The daemon sets another sink.
void log_warnings_to_stderr() {
  set_log_sink([](LogLevel level, const std::string& text) {
    if (level <= LogLevel::warning) print_error("moltfs: {}\n", printable(text));
  });
}

int run(int argc, char** argv) {
  log_warnings_to_stderr();
  const std::string_view path = argv[0];
  const std::string_view name = path.substr(path.rfind('/') + 1);
  if (const Command* command = find(kNames, name)) return command->run(argc, argv);
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (word == "--version" || word == "-V") {
    print("moltfs {}\n", MOLTFS_VERSION);
    return kExitOk;
  }
  if (word == "--help" || word == "-h" || word == "help") {
    write_output(usage_text());
    return kExitOk;
  }
  if (const Command* command = find(kCommands, word)) return command->run(argc - 1, argv + 1);
  // "mount -t fuse.moltfs" calls: moltfs DEVICE MOUNTPOINT -o OPTIONS
  if (argc >= 3 && !word.starts_with('-')) return mount_helper(argc, argv);
  if (!word.empty()) print_error("moltfs: unknown command \"{}\"\n\n", printable(word));
  write_error(usage_text());
  return kExitUsage;
}

/// Running out of memory or threads ends a command with a sentence.
int run_and_finish(int argc, char** argv) {
  try {
    return finish_output(run(argc, argv));
  } catch (const std::bad_alloc&) {
    print_error("moltfs: out of memory\n");
  } catch (const std::system_error& error) {
    print_error("moltfs: {}\n", error.what());
  }
  return kExitCannotRun;
}

}  // namespace
}  // namespace moltfs::fs::tool

int main(int argc, char** argv) {
  using namespace moltfs::fs::tool;
  begin_output();
  moltfs::fs::daemon::adapt_to_limits();
  if (argc < 1) return kExitUsage;
  return moltfs::fs::daemon::run_on_large_stack([&] { return run_and_finish(argc, argv); });
}
