// SPDX-License-Identifier: MIT
// moltfs sync: what sync(2) does for filesystems of the kernel. A FUSE filesystem is never told of
// sync(2); syncfs(2) here makes the kernel write back its page cache, and the daemon then commits.
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "fs/daemon/client.h"
#include "fs/tool/command_line.h"

namespace moltfs::fs::tool {
namespace {

Result<void> write_back(const std::string& mountpoint) {
  const int fd = open(mountpoint.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool done = fd >= 0 && syncfs(fd) == 0;
  const int err = errno;
  if (fd >= 0) close(fd);
  if (done) return ok();
  return Error(errc_from_errno(err), fmt::format("{}: {}", mountpoint, strerror(err)));
}

Result<void> sync(const std::string& path) {
  TRY(const auto client, daemon::Client::open(path));
  TRY(write_back(client.mountpoint()));
  return client.set("sync", "1");
}

}  // namespace

int sync_command(int argc, char** argv) {
  CommandLine app("Returns when all that was written to the mounted filesystem so far is durable.",
                  "moltfs sync");
  std::string mountpoint;
  app.add_option("MOUNTPOINT", mountpoint).required();
  return app.run(argc, argv, [&] {
    const auto done = sync(mountpoint);
    return done ? kExitOk : fail("sync", done.error());
  });
}

}  // namespace moltfs::fs::tool
