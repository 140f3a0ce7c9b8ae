// SPDX-License-Identifier: MIT
// What all commands do alike with CLI11: --help, --version, exit codes.
#pragma once

#include <CLI/CLI.hpp>

#include "fs/tool/tool.h"

namespace moltfs::fs::tool {

inline void add_version(CLI::App& app) {
  app.set_version_flag("--version", std::string("moltfs ") + MOLTFS_VERSION);
}

/// Parses, then returns `run()`; with --help, --version or wrong words what is due for them.
template <class F>
int parse_and_run(CLI::App& app, int argc, char** argv, F run) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return run();
}

}  // namespace moltfs::fs::tool
