// SPDX-License-Identifier: MIT
// The words of a command: flags, options and positional arguments, with --help and --version.
//
// A thin layer over CLI11, whose headers take ten times as long to compile as a command itself. Only
// command_line.cc includes them.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/tool/tool.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace moltfs::fs::tool {

/// An option or a positional argument that was added. Refers to its CommandLine.
class Argument {
 public:
  explicit Argument(CLI::Option& option) : option_(option) {}
  Argument& required();
  /// What --help calls the value.
  Argument& type_name(const std::string& name);
  /// The value must be one of `values`.
  Argument& one_of(std::initializer_list<const char*> values);
  /// May be given several times, each time with one value.
  Argument& repeatable();

 private:
  CLI::Option& option_;
};

/// Refers to the variables it is given; they must outlive it.
class CommandLine {
 public:
  CommandLine(const std::string& description, const std::string& name);
  ~CommandLine();
  CommandLine(CommandLine&&) = delete;

  /// One of the subcommands must then be given.
  CommandLine& add_subcommand(const std::string& name, const std::string& description);
  /// `names`: "-q,--quiet".
  void add_flag(const std::string& names, bool& flag, const std::string& help);
  /// `names`: "-L,--label", or one word for a positional argument.
  Argument add_option(const std::string& names, std::string& value, const std::string& help = "");
  Argument add_option(const std::string& names, std::optional<std::string>& value,
                      const std::string& help = "");
  Argument add_option(const std::string& names, std::vector<std::string>& values,
                      const std::string& help = "");
  /// Text after the list of options.
  void set_footer(const std::string& text);

  /// This subcommand was given.
  bool parsed() const;
  /// Parses, then returns `command()`. --help and --version print and return kExitOk; wrong words
  /// print what is wrong and return kExitUsage.
  int run(int argc, char** argv, const std::function<int()>& command);

 private:
  explicit CommandLine(CLI::App& subcommand);

  std::unique_ptr<CLI::App> owned_;  // nothing in a subcommand
  CLI::App& app_;
  std::vector<std::unique_ptr<CommandLine>> subcommands_;
};

}  // namespace moltfs::fs::tool
