// SPDX-License-Identifier: MIT
// moltfs check, and fsck.moltfs for fsck(8).
#include <fmt/format.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/json.h"
#include "alloc/base/size_text.h"
#include "alloc/base/utf8.h"
#include "alloc/device/system_devices.h"
#include "fs/check/check.h"
#include "fs/tool/command_line.h"
#include "fs/tool/output.h"
#include "fs/tool/terminal_line.h"

namespace moltfs::fs::tool {
namespace {

constexpr const char* kCheck = "check";

// Exit codes that fsck(8) expects. 1 to 3 have other meanings there.
constexpr int kFsckErrorsLeft = 4;
constexpr int kFsckCannotRun = 8;
constexpr int kFsckUsage = 16;

struct Request {
  std::vector<std::string> devices, hints;
  bool data = false, as_json = false, quiet = false, progress = true, degraded = false;
};

/// Shows on standard error how far the check is, a few times a second.
class CheckProgress {
 public:
  bool is_shown() const { return line_.is_terminal(); }
  void show(uint64_t done, uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (now - drawn_at_ < std::chrono::milliseconds(200) || total == 0) return;
    drawn_at_ = now;
    line_.draw(fmt::format("{:.1f} %, {} of {}",
                           100.0 * static_cast<double>(done) / static_cast<double>(total),
                           human_size(done), human_size(total)));
  }
  void end() { line_.erase(); }

 private:
  TerminalLine line_{stderr};
  std::chrono::steady_clock::time_point drawn_at_ = std::chrono::steady_clock::now();
};

Json to_json(const std::vector<Finding>& findings) {
  Json list = Json::list();
  for (const Finding& f : findings) {
    list.append(Json::object({{"where", f.where}, {"what", f.what}}));
  }
  return list;
}

void print_json(const CheckReport& report) {
  const Json json = Json::object({{"clean", report.clean()},
                                  {"finding_count", report.finding_count},
                                  {"findings", to_json(report.findings)},
                                  {"notes", to_json(report.notes)},
                                  {"inodes", report.inodes},
                                  {"directories", report.directories},
                                  {"nodes", report.nodes},
                                  {"extents", report.extents},
                                  {"data_bytes_verified", report.data_bytes_verified}});
  print("{}\n", json.pretty(2));
}

void print_text(const CheckReport& report, bool data) {
  for (const Finding& f : report.findings) {
    print("{}: {}\n", printable(f.where), printable(f.what));
  }
  if (report.finding_count > report.findings.size()) {
    print("... and {} more\n", report.finding_count - report.findings.size());
  }
  for (const Finding& f : report.notes) {
    print("note: {}: {}\n", printable(f.where), printable(f.what));
  }
  print("{}: {} inodes ({} directories), {} nodes, {} extents{}\n",
        report.clean() ? "clean" : fmt::format("{} errors found", report.finding_count),
        report.inodes, report.directories, report.nodes, report.extents,
        data ? fmt::format(", {} of data verified", human_size(report.data_bytes_verified))
             : std::string());
}

int run(const Request& request) {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  CheckOptions options;
  options.data = request.data;
  options.hints = request.hints;
  options.degraded = request.degraded;
  CheckProgress progress;
  if (request.progress && progress.is_shown()) {
    options.progress = [&](uint64_t done, uint64_t total) { progress.show(done, total); };
  }
  const auto report = check(runtime, *opener, request.devices, options);
  progress.end();
  if (!report) return fail(kCheck, report.error());
  if (request.as_json) {
    print_json(report.value());
  } else if (!request.quiet || !report.value().clean()) {
    print_text(report.value(), request.data);
  }
  return report.value().clean() ? kExitOk : kExitErrorsFound;
}

/// The path of "device=PATH"; empty for any other option.
std::string hint_of(const std::string& option) {
  constexpr std::string_view kPrefix = "device=";
  return option.starts_with(kPrefix) ? option.substr(kPrefix.size()) : std::string();
}

int fsck_exit_code(int code) {
  switch (code) {
    case kExitOk:
      return 0;
    case kExitErrorsFound:
      return kFsckErrorsLeft;
    case kExitUsage:
      return kFsckUsage;
    default:
      return kFsckCannotRun;
  }
}

constexpr const char* kFsckHelp =
    "usage: fsck.moltfs [-a] [-p] [-n] [-y] [-r] [-f] [-v] [-C] DEVICE...\n\n"
    "Verifies a filesystem that is not mounted, like \"moltfs check\". Changes nothing: the\n"
    "options are accepted for fsck(8), but only -C, which shows progress, has an effect.\n"
    "Exit codes are those of fsck(8): 0 clean, 4 errors found, 8 cannot run, 16 usage.\n";

}  // namespace

int check_command(int argc, char** argv) {
  CommandLine app(
      "Verifies the filesystem on DEVICE..., which must not be mounted; changes nothing.\n"
      "Exit codes: 0 clean, 1 usage, 2 cannot run, 3 errors found.",
      "moltfs check");
  Request request;
  std::vector<std::string> options;
  app.add_flag("--data", request.data, "verify the checksums of all data, on every copy");
  app.add_flag("--json", request.as_json, "one JSON object");
  app.add_flag("-q,--quiet", request.quiet, "print nothing if there are no errors");
  app.add_option(
         "-o", options,
         "device=PATH: where a missing device is now; degraded: check what the devices that are "
         "there have")
      .type_name("OPTION")
      .repeatable();
  app.add_option("DEVICE", request.devices).required();
  return app.run(argc, argv, [&] {
    for (const std::string& option : options) {
      if (option == "degraded") {
        request.degraded = true;
        continue;
      }
      request.hints.push_back(hint_of(option));
      if (!request.hints.back().empty()) continue;
      print_error("moltfs check: unknown option -o {}\n", option);
      return kExitUsage;
    }
    return run(request);
  });
}

int fsck_command(int argc, char** argv) {
  Request request;
  request.progress = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--help" || word == "-h") {
      print("{}", kFsckHelp);
      return kExitOk;
    }
    if (word == "--version" || word == "-V") {
      print("moltfs {}\n", MOLTFS_VERSION);
      return kExitOk;
    }
    if (word.starts_with("-C")) {  // -C, -C0: fsck asks for progress
      request.progress = true;
    } else if (word.size() > 1 && word[0] == '-') {
      if (word.find_first_not_of("apnyrfvl", 1) != std::string_view::npos) {
        print_error("fsck.moltfs: unknown option {}\n\n{}", word, kFsckHelp);
        return kFsckUsage;
      }
    } else {
      request.devices.emplace_back(word);
    }
  }
  if (request.devices.empty()) {
    print_error("{}", kFsckHelp);
    return kFsckUsage;
  }
  return finish_output(fsck_exit_code(run(request)), kFsckCannotRun);
}

}  // namespace moltfs::fs::tool
