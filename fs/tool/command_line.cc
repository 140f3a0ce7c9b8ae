// SPDX-License-Identifier: MIT
// The only source that includes CLI11.
#include "fs/tool/command_line.h"

#include <CLI/CLI.hpp>
#include <sstream>

#include "fs/tool/output.h"

namespace moltfs::fs::tool {

Argument& Argument::required() {
  option_.required();
  return *this;
}

Argument& Argument::type_name(const std::string& name) {
  option_.type_name(name);
  return *this;
}

Argument& Argument::one_of(std::initializer_list<const char*> values) {
  option_.check(CLI::IsMember(std::vector<std::string>(values.begin(), values.end())));
  return *this;
}

Argument& Argument::repeatable() {
  option_.expected(1)->take_all()->allow_extra_args(false);
  return *this;
}

CommandLine::CommandLine(const std::string& description, const std::string& name)
    : owned_(std::make_unique<CLI::App>(description, name)), app_(*owned_) {
  app_.set_version_flag("--version", std::string("moltfs ") + MOLTFS_VERSION);
}

CommandLine::CommandLine(CLI::App& subcommand) : app_(subcommand) {}

CommandLine::~CommandLine() = default;

CommandLine& CommandLine::add_subcommand(const std::string& name, const std::string& description) {
  app_.require_subcommand(1);
  CLI::App& added = *app_.add_subcommand(name, description);
  subcommands_.push_back(std::unique_ptr<CommandLine>(new CommandLine(added)));
  return *subcommands_.back();
}

void CommandLine::add_flag(const std::string& names, bool& flag, const std::string& help) {
  app_.add_flag(names, flag, help);
}

Argument CommandLine::add_option(const std::string& names, std::string& value,
                                 const std::string& help) {
  return Argument(*app_.add_option(names, value, help));
}

Argument CommandLine::add_option(const std::string& names, std::optional<std::string>& value,
                                 const std::string& help) {
  return Argument(*app_.add_option(names, value, help));
}

Argument CommandLine::add_option(const std::string& names, std::vector<std::string>& values,
                                 const std::string& help) {
  return Argument(*app_.add_option(names, values, help));
}

void CommandLine::set_footer(const std::string& text) {
  app_.footer(text);
}

bool CommandLine::parsed() const {
  return app_.parsed();
}

int CommandLine::run(int argc, char** argv, const std::function<int()>& command) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream output, errors;
    const bool is_help = app_.exit(error, output, errors) == 0;
    write_output(output.str());
    if (!errors.str().empty()) write_error(errors.str());
    return is_help ? kExitOk : kExitUsage;
  }
  return command();
}

}  // namespace moltfs::fs::tool
