// SPDX-License-Identifier: MIT
// What the commands print. The exit code of a command holds whatever happens to its output: if an
// error message cannot be written, it is lost and nothing else; if the product of a command cannot
// be written, finish_output() makes the command fail.
//
// What is printed may come from an image, from names, or from the daemon of somebody else: control
// characters other than newlines, and bytes that are not UTF-8, are escaped (alloc/base/utf8.h). That
// is done here, for all commands; JSON has no such characters. A text that may hold newlines of its
// own goes through printable() first.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "fs/tool/tool.h"

namespace moltfs::fs::tool {

/// To be called first in main(): descriptors, and signals that the parent may have set otherwise.
void begin_output();

/// Writes `text`, the product of a command, to standard output.
void write_output(std::string_view text);
/// The same without escaping: for scripts that want each byte.
void write_bytes(std::string_view bytes);
/// Writes `text`, about what a command has done, to standard output. The command does not fail if
/// that fails.
void write_note(std::string_view text);

template <class... Args>
void print(fmt::format_string<Args...> format, Args&&... args) {
  write_output(fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void print_note(fmt::format_string<Args...> format, Args&&... args) {
  write_note(fmt::format(format, std::forward<Args>(args)...));
}

void write_error(std::string_view text);
/// To standard error.
template <class... Args>
void print_error(fmt::format_string<Args...> format, Args&&... args) {
  write_error(fmt::format(format, std::forward<Args>(args)...));
}

/// The product could not be written: there is no use in going on.
bool output_has_failed();

/// Writes out what is buffered; returns the exit code of the command. That is `exit_code`, unless
/// that is 0 and the product could not be written: then an error is printed and `failed` returned,
/// or, if the reader of a pipe has gone, the process ends by SIGPIPE. Only the first call acts.
int finish_output(int exit_code, int failed = kExitCannotRun);

}  // namespace moltfs::fs::tool
