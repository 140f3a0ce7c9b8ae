// SPDX-License-Identifier: MIT
// Finds the device that a name means, checks whether it can be a target, and makes it one.
#pragma once

#include <memory>
#include <optional>
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

/// A device of the volume that is out, found and opened.
struct ReturningDevice {
  alloc::DeviceEntry entry;               ///< of the device table
  std::shared_ptr<alloc::Device> device;  ///< open exclusively
  /// Set: why what the device holds cannot be used (R9). bad_target, with a sentence.
  std::optional<Error> unusable;
};

/// Finds the device that `request` means. Writes nothing. Errors: those of Engine::online.
Result<ReturningDevice> find_returning(alloc::Volume& volume, const Engine::OnlineRequest& request,
                                       const std::vector<std::string>& hints);
/// Writes superblocks on a device that comes back. They say "target of devid N, incomplete", so that
/// it is not taken for a member while it is being written to, and that it was left properly. Reads
/// them back. REQUIRES: it is usable, and the durable superblock of the volume says that it is out.
Result<void> mark_returning(alloc::Volume& volume, const alloc::DeviceEntry& entry,
                            alloc::Device& device);

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
