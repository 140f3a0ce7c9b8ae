// SPDX-License-Identifier: MIT
#include "fs/tool/output.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <optional>
#include <utility>

#include "alloc/base/error.h"
#include "alloc/base/standard_streams.h"
#include "alloc/base/utf8.h"

namespace moltfs::fs::tool {
namespace {

/// Of the first failure to write to standard output.
struct Failure {
  int err;
  bool of_product;
};
std::optional<Failure> failure;
bool has_product = false;
bool sigpipe_ends_process = true;
bool is_finished = false;

void failed_with(int err, bool of_product) {
  if (failure) {
    failure->of_product |= of_product;
  } else {
    failure = Failure{err, of_product};
  }
}

/// Line by line: a newline within a name has been escaped before (printable()).
std::string shown(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    out += printable(line);
    if (line.size() < text.size()) out += '\n';
    text.remove_prefix(std::min(text.size(), line.size() + 1));
  }
  return out;
}

void write_to_output(std::string_view text, bool of_product) {
  if (fwrite(text.data(), 1, text.size(), stdout) != text.size()) failed_with(errno, of_product);
}

}  // namespace

void begin_output() {
  occupy_standard_descriptors();
  struct sigaction before {};
  sigaction(SIGPIPE, nullptr, &before);
  sigpipe_ends_process = before.sa_handler != SIG_IGN;
  signal(SIGPIPE, SIG_IGN);
  signal(SIGXFSZ, SIG_IGN);  // writing past RLIMIT_FSIZE fails with EFBIG
  signal(SIGCHLD, SIG_DFL);  // if it is ignored, waitpid(2) knows no exit status
}

void write_output(std::string_view text) {
  write_bytes(shown(text));
}

void write_bytes(std::string_view bytes) {
  has_product = true;
  write_to_output(bytes, true);
}

void write_note(std::string_view text) {
  write_to_output(shown(text), false);
}

void write_error(std::string_view text) {
  fflush(stdout);  // in the order in which it was printed
  write_to_standard_error(shown(text));
}

bool output_has_failed() {
  return failure && failure->of_product;
}

int finish_output(int exit_code, int failed) {
  if (std::exchange(is_finished, true)) return exit_code;
  if (fflush(stdout) != 0) failed_with(errno, has_product);
  // Some filesystems tell only when a file is closed that there was no room.
  if (!failure && fclose(stdout) != 0) failed_with(errno, has_product);
  if (!failure) return exit_code;
  const Failure told = *failure;
  if (exit_code == 0 && told.of_product && told.err == EPIPE && sigpipe_ends_process) {
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
  }
  print_error("moltfs: standard output: {}\n", text_of_errno(told.err));
  return exit_code == 0 && told.of_product ? failed : exit_code;
}

}  // namespace moltfs::fs::tool
