// SPDX-License-Identifier: MIT
// moltfs sync: like sync(2), which a FUSE filesystem is not told of. The kernel writes back its
// page cache of the mount, then the daemon commits.
#include <string>

#include "fs/daemon/client.h"
#include "fs/daemon/write_back.h"
#include "fs/tool/command_line.h"

namespace moltfs::fs::tool {
namespace {

Result<void> sync(const std::string& path) {
  TRY(const auto client, daemon::Client::open(path));
  TRY(daemon::write_back_cache(client.mountpoint()));
  return client.set("sync", "1");
}

}  // namespace

int sync_command(int argc, char** argv) {
  CommandLine app("Makes everything that was written to a mounted filesystem so far durable.",
                  "moltfs sync");
  std::string mountpoint;
  app.add_option("MOUNTPOINT", mountpoint).required();
  return app.run(argc, argv, [&] {
    const auto done = sync(mountpoint);
    return done ? kExitOk : fail("sync", done.error());
  });
}

}  // namespace moltfs::fs::tool
