// SPDX-License-Identifier: MIT
// Drawing over a line by the terminal's escape sequences.
#include "fs/tool/terminal_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <string>

#include "alloc/base/utf8.h"

namespace moltfs::fs::tool {

TerminalLine::TerminalLine(FILE* file) : file_(file), is_terminal_(isatty(fileno(file)) == 1) {}

unsigned TerminalLine::columns() const {
  winsize size{};
  return ioctl(fileno(file_), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void TerminalLine::draw(std::string_view text) {
  if (!is_terminal_) return;
  const std::string shown = printable(text);
  const std::string line = fmt::format("\r\033[K{}", utf8_prefix(shown, columns() - 1));
  fputs(line.c_str(), file_);
  fflush(file_);
  is_drawn_ = true;
}

void TerminalLine::erase() {
  if (is_drawn_) fputs("\r\033[K", file_);
  is_drawn_ = false;
}

}  // namespace moltfs::fs::tool
