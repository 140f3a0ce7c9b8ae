// SPDX-License-Identifier: MIT
// moltfs dump: prints what is on the devices.
#include <fmt/format.h>

#include <charconv>
#include <cstdlib>
#include <optional>
#include <string>

#include "alloc/device/system_devices.h"
#include "fs/check/dump.h"
#include "fs/tool/command_line.h"
#include "fs/tool/output.h"

namespace moltfs::fs::tool {
namespace {

constexpr const char* kDump = "dump";

template <class F>
int run(DumpRequest& request, const F& dump) {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  request.print = [](std::string_view text) {
    write_output(text);
    if (output_has_failed()) std::exit(finish_output(kExitOk));  // for instance by "| head"
  };
  const Result<void> done = dump(runtime, *opener);
  return done ? kExitOk : fail(kDump, done.error());
}

/// "4096" or "0x1000".
std::optional<LogicalOffset> parse_address(std::string_view text) {
  const bool hex = text.starts_with("0x");
  if (hex) text.remove_prefix(2);
  uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value, hex ? 16 : 10);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return std::nullopt;
  return LogicalOffset(value);
}

}  // namespace

int dump_command(int argc, char** argv) {
  CommandLine app("Prints what is on the devices of a filesystem that is not mounted.",
                  "moltfs dump");
  DumpRequest request;
  bool as_json = false;
  std::string tree, node, which;
  const auto add_devices = [&](CommandLine& command) {
    command.add_option("DEVICE", request.paths).required();
  };

  CommandLine& super =
      app.add_subcommand("super", "print every superblock copy; the devices may be in use");
  add_devices(super);
  CommandLine& chunks = app.add_subcommand("chunks", "print the chunk table");
  chunks.add_flag("--json", as_json, "one JSON object");
  add_devices(chunks);
  CommandLine& nodes = app.add_subcommand("tree", "print the nodes of a tree with their items");
  nodes.add_option("TREE", tree, "fs or extent").required().one_of({"fs", "extent"});
  nodes.add_option("--node", node, "print only the node at this logical address")
      .type_name("ADDRESS");
  add_devices(nodes);
  CommandLine& inode =
      app.add_subcommand("inode", "print an inode with its attributes and extents");
  inode.add_option("PATH|NUMBER", which, "a path from the root, or an inode number").required();
  add_devices(inode);
  CommandLine& log =
      app.add_subcommand("log", "print the batches of the fsync log that a mount will replay");
  add_devices(log);
  CommandLine& replace =
      app.add_subcommand("replace", "print the replace record with its coverage");
  add_devices(replace);

  return app.run(argc, argv, [&] {
    return run(request, [&](Runtime& runtime, alloc::DeviceOpener& opener) -> Result<void> {
      if (super.parsed()) return dump_superblocks(runtime, opener, request);
      if (chunks.parsed()) return dump_chunks(runtime, opener, request, as_json);
      if (inode.parsed()) return dump_inode(runtime, opener, request, which);
      if (log.parsed()) return dump_log(runtime, opener, request);
      if (replace.parsed()) return dump_replace(runtime, opener, request);
      const auto address = parse_address(node);
      if (!node.empty() && !address) {
        return Error(Errc::invalid_argument, fmt::format("\"{}\" is not an address", node));
      }
      return dump_tree(runtime, opener, request, tree == "fs" ? TreeId::fs : TreeId::extent,
                       address);
    });
  });
}

}  // namespace moltfs::fs::tool
