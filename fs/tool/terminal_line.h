// SPDX-License-Identifier: MIT
// A line on a terminal that is drawn again and again, to show progress.
#pragma once

#include <cstdio>
#include <string_view>

namespace moltfs::fs::tool {

class TerminalLine {
 public:
  /// `file`: stdout or stderr. If it is not a terminal, nothing is ever drawn.
  explicit TerminalLine(FILE* file);
  bool is_terminal() const { return is_terminal_; }
  /// Of the terminal now; 80 if it does not tell.
  unsigned columns() const;

  /// Replaces the line by `text` (ASCII), cut to the width of the terminal.
  void draw(std::string_view text);
  /// Erases the line, if one was drawn. To be called before other output.
  void erase();

 private:
  FILE* const file_;
  const bool is_terminal_;
  bool is_drawn_ = false;
};

}  // namespace moltfs::fs::tool
