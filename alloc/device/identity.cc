// SPDX-License-Identifier: MIT
// Recognizing what names lead to.
#include "alloc/device/identity.h"

#include <sys/stat.h>

#include "alloc/device/machine.h"

namespace moltfs::alloc {

Result<Identity> identify(int fd, const std::string& path) {
  Machine machine;
  TRY(const auto thing, machine.at(fd, path));
  Identity what;
  what.id = thing.id;
  what.mode = thing.mode;
  what.filesystem = thing.filesystem;
  if (S_ISBLK(what.mode)) what.layers = layers_of(machine, what.id);
  if (S_ISREG(what.mode)) what.layers = layers_of(machine, what.id, what.filesystem);
  return what;
}

Result<Identity> identify(const std::string& path) {
  TRY(const auto fd, open_path(path));
  return identify(fd.get(), path);
}

Identity identity_of(const StorageId& id) {
  Machine machine;
  Identity what;
  what.id = id;
  what.layers = layers_of(machine, id);
  return what;
}

Result<void> check_outside(const Identity& what, const std::string& path) {
  const dev_t served = served_filesystem();
  if (served == 0) return ok();
  Machine machine;
  const bool is_inside = what.filesystem == served ||
                         (!what.id.is_block_device && what.id.device == served) ||
                         stands_on(machine, what.layers, served);
  if (is_inside) return lies_on_served(path);
  return ok();
}

}  // namespace moltfs::alloc
