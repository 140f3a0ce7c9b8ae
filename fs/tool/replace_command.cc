// SPDX-License-Identifier: MIT
// moltfs replace: starts, watches, resumes and cancels a replace on a mounted filesystem.
#include "fs/tool/replace_command.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "alloc/base/json.h"
#include "alloc/base/size_text.h"
#include "alloc/base/utf8.h"
#include "alloc/base/uuid.h"
#include "fs/daemon/client.h"
#include "fs/daemon/device_path.h"
#include "fs/daemon/members.h"
#include "fs/tool/command_line.h"
#include "fs/tool/degraded.h"
#include "fs/tool/output.h"
#include "fs/tool/progress.h"
#include "replace/command.h"

namespace moltfs::fs::tool {
namespace {

constexpr const char* kReplace = "replace";
/// Time between two questions for the status. Short at first, so that a short replace ends at once.
constexpr auto kFirstPoll = std::chrono::milliseconds(2), kPoll = std::chrono::milliseconds(250);

volatile sig_atomic_t interrupted = 0;

void on_interrupt(int) {
  interrupted = 1;
}

bool in_progress(const std::string& state) {
  return state == "armed" || state == "copying" || state == "finishing";
}

std::string device_text(const Json& status, const std::string& which) {
  const std::string path = printable(status.text(which + ".path"));
  return fmt::format("{} ({}, uuid {})", path.empty() ? "?" : path,
                     human_size(status.number(which + ".size")), status.text(which + ".uuid"));
}

void print_status(const Json& s) {
  const std::string state = s.text("state");
  print("state       {}\n", state);
  if (state == "none") return;
  if (s.text("kind") == "rejoin") {
    print("comes back  devid {}, {}\n", s.number("target.devid"), device_text(s, "target"));
  } else {
    print("source      devid {}, {}\n", s.number("source.devid"), device_text(s, "source"));
    print("target      {}\n", device_text(s, "target"));
  }
  if (in_progress(state)) print("progress    {}\n", progress_text(s));
  print("copied      {} of {}\n", human_size(s.number("bytes_copied")),
        human_size(s.number("bytes_total")));
  print("duplicated  {}   (written by programs meanwhile, to both devices)\n",
        human_size(s.number("bytes_duplicated")));
  print("skipped     {}   (already on the target: not copied again)\n",
        human_size(s.number("bytes_skipped")));
  print(
      "errors      {} read and corrected, {} unreadable, {} target writes, {} target "
      "flushes\n",
      s.number("errors.read_corrected"), s.number("errors.read_uncorrectable"),
      s.number("errors.target_write"), s.number("errors.target_flush"));
  if (const std::string reason = printable(s.text("reason")); !reason.empty()) {
    print("reason      {}\n", reason);
  }
}

/// Prints how the replace ended. Returns the exit code.
int report_end(const Json& status) {
  const std::string state = status.text("state");
  const std::string reason = printable(status.text("reason"));
  if (state == "finished") {
    print_note("finished: {} copied, {} written to both meanwhile\n",
               human_size(status.number("bytes_copied")),
               human_size(status.number("bytes_duplicated")));
    const uint64_t lost = status.number("errors.read_uncorrectable");
    if (lost == 0) return kExitOk;
    print_error("moltfs replace: {} blocks could not be read from any copy: {}\n", lost, reason);
    return kExitErrorsFound;
  }
  print_error("moltfs replace: {}{}{}\n", state, reason.empty() ? "" : ": ", reason);
  return state == "none" ? kExitOk : kExitCannotRun;
}

}  // namespace

int follow_replace(const daemon::Client& client) {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  Progress progress;
  for (auto poll = kFirstPoll;;) {
    const auto status = client.get_json("replace");
    if (!status) {
      progress.end();
      return fail(kReplace, status.error());
    }
    if (!in_progress(status.value().text("state"))) {
      progress.end();
      return report_end(status.value());
    }
    progress.show(status.value());
    if (interrupted) {
      progress.end();
      print_error(
          "moltfs replace: stopped watching; the replace continues. Its status: moltfs "
          "replace status {}\n",
          client.mountpoint());
      return 128 + SIGINT;
    }
    std::this_thread::sleep_for(poll);
    poll = std::min(poll * 5 / 4, kPoll);
  }
}

bool is_path(const std::string& word) {
  const bool is_number = word.find_first_not_of("0123456789") == std::string::npos;
  return !is_number && !Uuid::parse(word);
}

std::string resolve_device(const daemon::Client& client, const std::string& word) {
  if (!is_path(word)) return word;
  const auto device = find_same(daemon::devices_of(client), word);
  return device ? std::to_string(device->devid) : daemon::absolute_path(word);
}

namespace {

/// Replaces names by what they mean here: the daemon has another working directory, and may see
/// other files. Error: bad_target if the target is a device of the volume, by whatever name.
Result<void> resolve_names(const daemon::Client& client, replace::Engine::StartRequest& start) {
  const auto devices = daemon::devices_of(client);
  start.source = resolve_device(client, start.source);
  start.target = daemon::absolute_path(start.target);
  const auto member = find_same(devices, start.target);
  if (!member) return ok();
  const bool is_source = start.source == std::to_string(member->devid);
  return Error(Errc::bad_target,
               is_source
                   ? fmt::format("{}: is devid {}, the source itself", start.target, member->devid)
                   : fmt::format("{}: is a member of this volume already (devid {})", start.target,
                                 member->devid));
}

int tell(const std::string& mountpoint, replace::Command command, bool wait) {
  const auto client = daemon::Client::open(mountpoint);
  if (!client) return fail(kReplace, client.error());
  if (command.verb == replace::Command::Verb::start) {
    const auto resolved = resolve_names(client.value(), command.start);
    if (!resolved) return fail(kReplace, resolved.error());
  }
  const std::string text = replace::format_command(command);
  const auto done = command.verb == replace::Command::Verb::start
                        ? client.value().start_replace(text, command.start.target)
                        : client.value().set("replace", text);
  if (!done) return fail(kReplace, done.error());
  if (wait) return follow_replace(client.value());
  return kExitOk;
}

int show_status(const std::string& mountpoint, bool watch, bool as_json) {
  const auto client = daemon::Client::open(mountpoint);
  if (!client) return fail(kReplace, client.error());
  if (watch) return follow_replace(client.value());
  if (as_json) {
    const auto text = client.value().get("replace");
    if (!text) return fail(kReplace, text.error());
    print("{}\n", text.value());
    return kExitOk;
  }
  const auto status = client.value().get_json("replace");
  if (!status) return fail(kReplace, status.error());
  print_status(status.value());
  const auto devices = client.value().get_json("devices");
  if (!devices) return kExitOk;
  for (const std::string& line : degraded_lines(devices.value(), mountpoint)) print("{}\n", line);
  return kExitOk;
}

/// Lists what could not be read. Exit code 3 if there is anything.
int show_errors(const std::string& mountpoint, bool as_json) {
  const auto client = daemon::Client::open(mountpoint);
  if (!client) return fail(kReplace, client.error());
  if (as_json) {
    const auto text = client.value().get("errors");
    if (!text) return fail(kReplace, text.error());
    print("{}\n", text.value());
    return kExitOk;
  }
  const auto errors = client.value().get_json("errors");
  if (!errors) return fail(kReplace, errors.error());
  const uint64_t blocks = errors.value().number("blocks");
  if (blocks == 0) return kExitOk;
  print("{} block{} of the source could not be read\n", blocks, blocks == 1 ? "" : "s");
  for (const Json& place : errors.value().elements("places")) {
    print("{}, {} bytes\n", printable(place.text("where")), place.number("bytes"));
  }
  if (errors.value().flag("more")) print("... and more\n");
  return kExitErrorsFound;
}

}  // namespace

int replace_command(int argc, char** argv) {
  CommandLine app("Replaces a device by another one while the filesystem is in use.",
                  "moltfs replace");
  std::string source, target, mountpoint;
  bool force = false, wait = false, watch = false, as_json = false, accept_loss = false;

  CommandLine& start =
      app.add_subcommand("start", "start a replace; returns when writes go to both devices");
  start.add_flag("--force", force, "overwrite another filesystem's signature on the target");
  start.add_flag("--wait", wait, "return when the replace has ended");
  start.add_option("SOURCE", source, "devid, path or uuid of the device to be replaced").required();
  start.add_option("TARGET", target, "path of the device that replaces it").required();
  CommandLine& status =
      app.add_subcommand("status", "print progress and errors, or how the last replace ended");
  status.add_flag("--watch", watch, "show progress until the replace has ended");
  status.add_flag("--json", as_json, "one JSON object");
  CommandLine& resume = app.add_subcommand("resume", "continue a suspended replace");
  resume.add_flag("--wait", wait, "return when the replace has ended");
  resume.add_flag("--accept-loss", accept_loss,
                  "finish without the blocks of the source that cannot be read");
  CommandLine& errors = app.add_subcommand("errors", "list what could not be read from the source");
  errors.add_flag("--json", as_json, "one JSON object");
  CommandLine& cancel =
      app.add_subcommand("cancel", "end the replace: the source stays, the target is free");
  for (CommandLine* verb : {&start, &status, &resume, &errors, &cancel}) {
    verb->add_option("MOUNTPOINT", mountpoint).required();
  }
  return app.run(argc, argv, [&] {
    if (status.parsed()) return show_status(mountpoint, watch, as_json);
    if (errors.parsed()) return show_errors(mountpoint, as_json);
    replace::Command command;
    if (start.parsed()) {
      command.verb = replace::Command::Verb::start;
      command.start = {source, target, force};
    } else {
      command.verb =
          resume.parsed() ? replace::Command::Verb::resume : replace::Command::Verb::cancel;
      command.accept_loss = accept_loss;
    }
    return tell(mountpoint, std::move(command), wait);
  });
}

}  // namespace moltfs::fs::tool
