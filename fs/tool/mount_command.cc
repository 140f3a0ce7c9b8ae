// SPDX-License-Identifier: MIT
// moltfs mount, and mount.moltfs for mount(8).
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/utf8.h"
#include "fs/daemon/daemon.h"
#include "fs/daemon/device_path.h"
#include "fs/daemon/find_device.h"
#include "fs/daemon/mount_namespace.h"
#include "fs/daemon/mounts.h"
#include "fs/daemon/remount.h"
#include "fs/tool/command_line.h"
#include "fs/tool/output.h"

namespace moltfs::fs::tool {
namespace {

int usage_error(const Error& error) {
  print_error("moltfs mount: {}\n", printable(error.message()));
  return kExitUsage;
}

/// The daemon has another working directory: there a path that could not be made absolute would mean
/// something else.
Result<void> check_absolute(const daemon::MountRequest& request) {
  std::vector<std::string> paths = request.devices;
  paths.insert(paths.end(), request.mount.device_hints.begin(), request.mount.device_hints.end());
  paths.push_back(request.mountpoint);
  for (const std::string& path : paths) {
    if (path.starts_with('/') || daemon::is_tag(path)) continue;
    return Error(Errc::not_found,
                 path.empty()
                     ? std::string("an empty path names nothing")
                     : fmt::format("{}: is relative to the working directory, which was removed or "
                                   "cannot be reached",
                                   path));
  }
  return ok();
}

int mount_devices(const std::vector<std::string>& option_lists, std::vector<std::string> words,
                  daemon::MountRequest request) {
  for (const std::string& list : option_lists) {
    const auto parsed = daemon::parse_mount_options(list, request);
    if (!parsed) return usage_error(parsed.error());
  }
  if (words.size() < (request.remount ? 1 : 2)) {
    return usage_error(Error(Errc::invalid_argument, "expected DEVICE... MOUNTPOINT"));
  }
  request.mountpoint = daemon::resolved_path(words.back());
  words.pop_back();
  for (const std::string& word : words) {
    request.devices.push_back(daemon::absolute_path(word));
  }
  const auto absolute = check_absolute(request);
  if (!absolute) return fail("mount", absolute.error());
  if (!request.remount) return daemon::run(request);
  const auto done = daemon::remount(request);
  return done ? kExitOk : fail("mount", done.error());
}

}  // namespace

int mount_command(int argc, char** argv) {
  CommandLine app(
      "Mounts the filesystem on DEVICE... at MOUNTPOINT. One device of a volume is enough.\n"
      "A block device may be given as LABEL=... or UUID=...",
      "moltfs mount");
  std::vector<std::string> options, words;
  bool foreground = false, lists_options = false;
  app.add_option("-o", options, "mount options, separated by commas")
      .type_name("OPTIONS")
      .repeatable();
  app.add_flag("--foreground,-f", foreground, "stay in the foreground, messages on standard error");
  app.add_flag("--list-options", lists_options, "print the mount options as a table in Markdown");
  app.add_option("words", words, "DEVICE... MOUNTPOINT").type_name("DEVICE... MOUNTPOINT");
  app.set_footer("Mount options:\n" + daemon::mount_options_help());
  return app.run(argc, argv, [&] {
    if (lists_options) {
      print("{}", daemon::mount_options_table());
      return kExitOk;
    }
    daemon::MountRequest request;
    request.foreground = foreground;
    return mount_devices(options, words, std::move(request));
  });
}

int mount_helper(int argc, char** argv) {
  std::vector<std::string> options, words;
  std::string name_space;
  bool fake = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h") {
      print("usage: {} DEVICE MOUNTPOINT [-sfnv] [-o OPTIONS] [-t TYPE]\n\n{}", argv[0],
            daemon::mount_options_help());
      return kExitOk;
    }
    if (word == "--version" || word == "-V") {
      print("moltfs {}\n", MOLTFS_VERSION);
      return kExitOk;
    }
    if (word == "-o" || word == "-t" || word == "-N") {
      if (++i == argc) {
        return usage_error(Error(Errc::invalid_argument, fmt::format("{} needs a value", word)));
      }
      if (word == "-o") options.emplace_back(argv[i]);
      if (word == "-N") name_space = argv[i];
    } else if (word.starts_with("-o")) {
      options.emplace_back(word.substr(2));
    } else if (word.size() > 1 && word[0] == '-') {
      // -s (sloppy), -n (no mtab), -v, -w: no effect; -r: read-only; -f: do nothing
      if (word.find_first_not_of("sfnvrw", 1) != std::string_view::npos) {
        return usage_error(Error(Errc::invalid_argument, fmt::format("unknown option {}", word)));
      }
      if (word.find('r') != std::string_view::npos) options.emplace_back("ro");
      if (word.find('f') != std::string_view::npos) fake = true;
    } else {
      words.emplace_back(word);
    }
  }
  if (fake) return kExitOk;
  if (!name_space.empty()) {
    const auto entered = daemon::enter_mount_namespace(name_space);
    if (!entered) return fail("mount", entered.error());
  }
  return mount_devices(options, std::move(words), {});
}

}  // namespace moltfs::fs::tool
