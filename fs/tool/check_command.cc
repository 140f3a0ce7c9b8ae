// SPDX-License-Identifier: MIT
// moltfs check, and the way fsck(8) calls it (fsck.moltfs).
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "alloc/base/size_text.h"
#include "alloc/device/system_devices.h"
#include "fs/check/check.h"
#include "fs/mount/control.h"
#include "fs/tool/command_line.h"

namespace moltfs::fs::tool {
namespace {

constexpr const char* kNoun = "check";

// What fsck(8) expects, which gives 1 to 3 other meanings.
constexpr int kFsckErrorsLeft = 4;
constexpr int kFsckCannotRun = 8;
constexpr int kFsckUsage = 16;

struct Request {
  std::vector<std::string> devices, hints;
  bool data = false, as_json = false, quiet = false, progress = true;
};

/// One line on a terminal, drawn anew a few times a second.
class ProgressLine {
 public:
  void show(uint64_t done, uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (now - drawn_at_ < std::chrono::milliseconds(200) || total == 0) return;
    drawn_at_ = now;
    drawn_ = true;
    fmt::print(stderr, "\r\033[K{:.1f} %, {} of {}",
               100.0 * static_cast<double>(done) / static_cast<double>(total), human_size(done),
               human_size(total));
  }
  void end() {
    if (drawn_) fmt::print(stderr, "\r\033[K");
  }

 private:
  std::chrono::steady_clock::time_point drawn_at_ = std::chrono::steady_clock::now();
  bool drawn_ = false;
};

std::string findings_json(const std::vector<Finding>& findings) {
  std::string list;
  for (const Finding& f : findings) {
    list += fmt::format("{}\n    {{\"where\": {}, \"what\": {}}}", list.empty() ? "" : ",",
                        json_quote(f.where), json_quote(f.what));
  }
  return list.empty() ? "[]" : "[" + list + "\n  ]";
}

void print_json(const CheckReport& report) {
  fmt::print(
      "{{\n  \"clean\": {},\n  \"finding_count\": {},\n  \"findings\": {},\n  \"notes\": {},\n"
      "  \"inodes\": {},\n  \"directories\": {},\n  \"nodes\": {},\n  \"extents\": {},\n"
      "  \"data_bytes_verified\": {}\n}}\n",
      report.clean(), report.finding_count, findings_json(report.findings),
      findings_json(report.notes), report.inodes, report.directories, report.nodes, report.extents,
      report.data_bytes_verified);
}

void print_text(const CheckReport& report, bool data) {
  for (const Finding& f : report.findings) fmt::print("{}: {}\n", f.where, f.what);
  if (report.finding_count > report.findings.size()) {
    fmt::print("... and {} more\n", report.finding_count - report.findings.size());
  }
  for (const Finding& f : report.notes) fmt::print("note: {}: {}\n", f.where, f.what);
  fmt::print("{}: {} inodes ({} directories), {} nodes, {} extents{}\n",
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
  ProgressLine progress;
  if (request.progress && isatty(STDERR_FILENO) == 1) {
    options.progress = [&](uint64_t done, uint64_t total) { progress.show(done, total); };
  }
  const auto report = check(runtime, *opener, request.devices, options);
  progress.end();
  if (!report) return fail(kNoun, report.error());
  if (request.as_json) {
    print_json(report.value());
  } else if (!request.quiet || !report.value().clean()) {
    print_text(report.value(), request.data);
  }
  return report.value().clean() ? kExitOk : kExitErrorsFound;
}

/// "device=PATH" of -o; empty for anything else.
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
    "Verifies a filesystem that is not mounted, as \"moltfs check\" does. It never changes\n"
    "anything, whatever the options, which are accepted for fsck(8).\n"
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
  app.add_flag("-q,--quiet", request.quiet, "print nothing if it is clean");
  app.add_option("-o", options, "device=PATH: where a missing device may be")
      .type_name("OPTION")
      .repeatable();
  app.add_option("DEVICE", request.devices).required();
  return app.run(argc, argv, [&] {
    for (const std::string& option : options) {
      request.hints.push_back(hint_of(option));
      if (!request.hints.back().empty()) continue;
      fmt::print(stderr, "moltfs check: unknown option -o {}\n", option);
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
      fmt::print("{}", kFsckHelp);
      return kExitOk;
    }
    if (word == "--version" || word == "-V") {
      fmt::print("moltfs {}\n", MOLTFS_VERSION);
      return kExitOk;
    }
    if (word.starts_with("-C")) {  // -C, -C0: fsck asks for progress
      request.progress = true;
    } else if (word.size() > 1 && word[0] == '-') {
      if (word.find_first_not_of("apnyrfvl", 1) != std::string_view::npos) {
        fmt::print(stderr, "fsck.moltfs: unknown option {}\n\n{}", word, kFsckHelp);
        return kFsckUsage;
      }
    } else {
      request.devices.emplace_back(word);
    }
  }
  if (request.devices.empty()) {
    fmt::print(stderr, "{}", kFsckHelp);
    return kFsckUsage;
  }
  return fsck_exit_code(run(request));
}

}  // namespace moltfs::fs::tool
