// SPDX-License-Identifier: MIT
// What a path or descriptor is, whatever it is called. Everything that acts on a device asks here
// first: mkfs, mount, check, dump, replace and `-o device=`.
//
// A path means what the kernel says it means: it is opened (O_PATH), never shortened as text.
//
//   TRY(const Descriptor fd, open_path(path));           // opens nothing but the name
//   TRY(const Identity what, identify(fd.get(), path));  // any descriptor will do
//   TRY(check_outside(what, path));                      // not on the filesystem of this process
//   what.is_same(other)                                  // the same bytes, by whatever name
//
// FileDevice::open does all of this, and then keeps others away (claim.h). same_storage.h compares
// an open Device with a path. The functions work in every process, also with descriptors that
// another process has opened. They follow loop devices, partitions, the device mapper and md
// (storage.h). For that they read /proc/self/mountinfo, /proc/swaps, /sys/dev/block and /sys/block,
// and open the nodes of loop devices for reading (machine.h). What they cannot find out counts as a
// storage of its own.
//
// A daemon must not look up a name on the filesystem that it serves: the kernel locks the root
// directory while it waits for the answer to a command, and the look-up would wait for that lock.
// After set_served_filesystem() open_path() walks each path by itself, and stops before it would
// look up a name there. Nothing here sends a request to the served filesystem then, apart from the
// kernel's question for the attributes of the file of a loop device, and the question for an
// extended attribute of a filesystem that is stacked on it (overlayfs); they need no such lock.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "alloc/base/error.h"
#include "alloc/device/open_path.h"
#include "alloc/device/storage.h"

namespace moltfs::alloc {

struct Identity {
  StorageId id;     ///< meaningful for block devices and regular files
  mode_t mode = 0;  ///< as st_mode
  /// The filesystem that the name lies on, by its device number in /proc/self/mountinfo. 0 if this
  /// mount namespace does not have it.
  dev_t filesystem = 0;
  std::vector<StorageLayer> layers;  ///< empty unless it is a block device or a regular file

  /// True if writing to one changes the other: one device by two names, a loop device and its file,
  /// a partition and its disk.
  bool is_same(const Identity& other) const { return overlap(layers, other.layers); }
};

/// Of any descriptor, also one with O_PATH. `path` is for messages.
Result<Identity> identify(int fd, const std::string& path);
/// Of what `path` leads to.
Result<Identity> identify(const std::string& path);
/// Of a storage that another process has named; its mode and filesystem are not known.
Identity identity_of(const StorageId& id);
/// Error: bad_target if `what` lies on the served filesystem, or on anything that is stored there:
/// a loop device on a file there, a filesystem on such a device, another moltfs whose image is there.
Result<void> check_outside(const Identity& what, const std::string& path);

}  // namespace moltfs::alloc
