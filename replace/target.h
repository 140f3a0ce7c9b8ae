// SPDX-License-Identifier: MIT
// Finds the device that a name means, checks whether it can be a target, and makes it one.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "alloc/volume/volume.h"
#include "replace/engine.h"

namespace moltfs::replace {

/// The member that `name` means: a devid, a uuid, or any path that leads to its bytes. Error:
/// not_found with a sentence.
Result<alloc::DeviceEntry> find_source(const alloc::Volume& volume, const std::string& name);

struct CheckedTarget {
  std::shared_ptr<alloc::Device> device;  ///< open exclusively
  bool must_wipe = false;                 ///< something is on it, and --force was given
};

/// Opens the target and checks whether it can take the place of `source`; writes nothing. Errors,
/// each with a sentence: bad_target (too small, the source itself, already a member), device_in_use,
/// device_read_only, foreign_signature, not_found, invalid_argument (a directory or the like; a path
/// too long).
Result<CheckedTarget> check_target(alloc::Volume& volume, const alloc::DeviceEntry& source,
                                   const Engine::StartRequest& request);
/// Error: bad_target if a device of `size_bytes` is too small for the allocated chunks of `source`.
Result<void> check_size(const alloc::Volume& volume, const alloc::DeviceEntry& source,
                        const std::string& path, uint64_t size_bytes);

/// Discards the device if it can (except under the source's chunks), wipes the signatures of what
/// was on it, writes superblocks that say "target of devid N, incomplete", and reads them back.
Result<void> prepare_target(alloc::Volume& volume, const alloc::DeviceEntry& target,
                            const CheckedTarget& checked);

struct FoundTarget {
  std::shared_ptr<alloc::Device> device;  ///< open exclusively
  Generation generation;                  ///< of its superblock
  bool follows = false;                   ///< commits keep that up to date (older programs do not)
};

/// Finds the target of an interrupted replace at its recorded path, at one of `hints` or (with
/// `search`) on any device, and opens it. Its superblock must have the right volume, uuid and role.
/// Error: not_found, or why it could not be opened; with a sentence.
Result<FoundTarget> find_target(alloc::Volume& volume, const alloc::DeviceEntry& target,
                                const std::vector<std::string>& hints, bool search);

}  // namespace moltfs::replace
