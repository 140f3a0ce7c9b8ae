// SPDX-License-Identifier: MIT
// Which device is meant by a name, whether it will do as a target, and making it one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "alloc/volume/volume.h"

namespace moltfs::replace {

/// The member that `name` means: a devid, a uuid or a path. Error: not_found with a sentence.
Result<alloc::DeviceEntry> find_source(const alloc::Volume& volume, const std::string& name);

struct CheckedTarget {
  std::shared_ptr<alloc::Device> device;  ///< open exclusively
  bool must_wipe = false;                 ///< it holds something, and --force was given
};

/// Opens `path` and finds out whether it can take the place of `source`; writes nothing. Errors,
/// each a sentence with names and numbers: bad_target (too small, the source itself, already a
/// member), device_in_use, device_read_only, foreign_signature, not_found, invalid_argument (a
/// directory or the like).
Result<CheckedTarget> check_target(alloc::Volume& volume, const alloc::DeviceEntry& source,
                                   const std::string& path, bool force);
/// bad_target if a device of `size_bytes` does not hold the allocated chunks of `source`.
Result<void> check_size(const alloc::Volume& volume, const alloc::DeviceEntry& source,
                        const std::string& path, uint64_t size_bytes);

/// Discards the device (where it can, and but for what lies under the source's chunks), wipes the
/// signatures of what it held, and writes superblocks that say "target of devid N, incomplete";
/// reads them back.
Result<void> prepare_target(alloc::Volume& volume, const alloc::DeviceEntry& target,
                            const CheckedTarget& checked);

/// Finds the target of an interrupted replace at its recorded path, at one of `hints` or (with
/// `search`) anywhere, and opens it. It must say of itself that it is: volume, uuid and role.
/// Error: not_found or what kept it from being opened, with a sentence.
Result<std::shared_ptr<alloc::Device>> find_target(alloc::Volume& volume,
                                                   const alloc::DeviceEntry& target,
                                                   const std::vector<std::string>& hints,
                                                   bool search);

}  // namespace moltfs::replace
