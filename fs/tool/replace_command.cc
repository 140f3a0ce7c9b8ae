// SPDX-License-Identifier: MIT
// moltfs replace: starts, watches, resumes and cancels a replace on a mounted filesystem.
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "alloc/base/size_text.h"
#include "alloc/base/uuid.h"
#include "fs/daemon/client.h"
#include "fs/daemon/options.h"
#include "fs/tool/command_line.h"
#include "fs/tool/json.h"
#include "fs/tool/progress.h"
#include "replace/command.h"

namespace moltfs::fs::tool {
namespace {

constexpr const char* kReplace = "replace";
/// How often the status is asked for: often at first, so that a short replace ends at once.
constexpr auto kFirstPoll = std::chrono::milliseconds(2), kPoll = std::chrono::milliseconds(250);

volatile sig_atomic_t interrupted = 0;

void on_interrupt(int) {
  interrupted = 1;
}

bool in_progress(const std::string& state) {
  return state == "armed" || state == "copying" || state == "finishing";
}

std::string device_text(const Json& status, const std::string& which) {
  const std::string path = status.text(which + ".path");
  return fmt::format("{} ({}, uuid {})", path.empty() ? "?" : path,
                     human_size(status.number(which + ".size")), status.text(which + ".uuid"));
}

void print_status(const Json& s) {
  const std::string state = s.text("state");
  fmt::print("state       {}\n", state);
  if (state == "none") return;
  fmt::print("source      devid {}, {}\n", s.number("source.devid"), device_text(s, "source"));
  fmt::print("target      {}\n", device_text(s, "target"));
  if (in_progress(state)) fmt::print("progress    {}\n", progress_text(s));
  fmt::print("copied      {} of {}\n", human_size(s.number("bytes_copied")),
             human_size(s.number("bytes_total")));
  fmt::print("duplicated  {}   (written by users meanwhile; to both devices)\n",
             human_size(s.number("bytes_duplicated")));
  fmt::print("skipped     {}   (born under duplication: not copied again)\n",
             human_size(s.number("bytes_skipped")));
  fmt::print(
      "errors      {} read and corrected, {} unreadable, {} target writes, {} target "
      "flushes\n",
      s.number("errors.read_corrected"), s.number("errors.read_uncorrectable"),
      s.number("errors.target_write"), s.number("errors.target_flush"));
  if (const std::string reason = s.text("reason"); !reason.empty()) {
    fmt::print("reason      {}\n", reason);
  }
}

/// The sentence at the end of a wait, and the exit code.
int report_end(const Json& status) {
  const std::string state = status.text("state");
  const std::string reason = status.text("reason");
  if (state == "finished") {
    fmt::print("finished: {} copied, {} written to both meanwhile\n",
               human_size(status.number("bytes_copied")),
               human_size(status.number("bytes_duplicated")));
    const uint64_t lost = status.number("errors.read_uncorrectable");
    if (lost == 0) return kExitOk;
    fmt::print(stderr, "moltfs replace: {} blocks could not be read from any copy: {}\n", lost,
               reason);
    return kExitErrorsFound;
  }
  fmt::print(stderr, "moltfs replace: {}{}{}\n", state, reason.empty() ? "" : ": ", reason);
  return state == "none" ? kExitOk : kExitCannotRun;
}

Result<Json> status_of(const daemon::Client& client) {
  TRY(const auto text, client.get("replace"));
  if (auto json = Json::parse(text)) return std::move(*json);
  return Error(Errc::io_error, "the daemon's status is not JSON");
}

/// Follows a replace until it is no longer in progress.
int follow(const daemon::Client& client) {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  Progress progress;
  for (auto poll = kFirstPoll;;) {
    const auto status = status_of(client);
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
      fmt::print(stderr,
                 "moltfs replace: no longer watching; the replace goes on. See it with: "
                 "moltfs replace status {}\n",
                 client.mountpoint());
      return 128 + SIGINT;
    }
    std::this_thread::sleep_for(poll);
    poll = std::min(poll * 5 / 4, kPoll);
  }
}

/// A path as the daemon, which has another working directory, must have it; devids and uuids stay.
std::string device_word(const std::string& word) {
  const bool is_number = word.find_first_not_of("0123456789") == std::string::npos;
  if (is_number || Uuid::parse(word)) return word;
  return daemon::absolute_path(word);
}

int tell(const std::string& mountpoint, const replace::Command& command, bool wait) {
  const auto client = daemon::Client::open(mountpoint);
  if (!client) return fail(kReplace, client.error());
  const auto done = client.value().set("replace", replace::format_command(command));
  if (!done) return fail(kReplace, done.error());
  if (wait) return follow(client.value());
  return kExitOk;
}

int show_status(const std::string& mountpoint, bool watch, bool as_json) {
  const auto client = daemon::Client::open(mountpoint);
  if (!client) return fail(kReplace, client.error());
  if (watch) return follow(client.value());
  const auto text = client.value().get("replace");
  if (!text) return fail(kReplace, text.error());
  const auto status = Json::parse(text.value());
  if (as_json || !status) {
    fmt::print("{}\n", text.value());
  } else {
    print_status(*status);
  }
  return kExitOk;
}

}  // namespace

int replace_command(int argc, char** argv) {
  CommandLine app("Puts another device into the place of one, while the filesystem is in use.",
                  "moltfs replace");
  std::string source, target, mountpoint;
  bool force = false, wait = false, watch = false, as_json = false;

  CommandLine& start = app.add_subcommand("start", "begin; returns when writes go to both devices");
  start.add_flag("--force", force, "overwrite another filesystem's signature on the target");
  start.add_flag("--wait", wait, "return when the replace has ended");
  start.add_option("SOURCE", source, "devid, path or uuid of the device to be replaced").required();
  start.add_option("TARGET", target, "path of the device that takes its place").required();
  CommandLine& status = app.add_subcommand("status", "how far it is; or how the last one ended");
  status.add_flag("--watch", watch, "until it has ended");
  status.add_flag("--json", as_json, "one JSON object");
  CommandLine& resume = app.add_subcommand("resume", "go on with a suspended replace");
  resume.add_flag("--wait", wait, "return when the replace has ended");
  CommandLine& cancel =
      app.add_subcommand("cancel", "give up: the source stays, the target is free");
  for (CommandLine* verb : {&start, &status, &resume, &cancel}) {
    verb->add_option("MOUNTPOINT", mountpoint).required();
  }
  return app.run(argc, argv, [&] {
    if (status.parsed()) return show_status(mountpoint, watch, as_json);
    replace::Command command;
    if (start.parsed()) {
      command.verb = replace::Command::Verb::start;
      command.start = {device_word(source), daemon::absolute_path(target), force};
    } else {
      command.verb =
          resume.parsed() ? replace::Command::Verb::resume : replace::Command::Verb::cancel;
    }
    return tell(mountpoint, command, wait);
  });
}

}  // namespace moltfs::fs::tool
