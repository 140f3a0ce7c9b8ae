// SPDX-License-Identifier: MIT
// Comparing open devices.
#include "alloc/device/same_storage.h"

#include "alloc/device/file_device.h"

namespace moltfs::alloc {

const Identity* identity_of(const Device& device) {
  const auto* file = dynamic_cast<const FileDevice*>(&device);
  return file == nullptr ? nullptr : &file->identity();
}

bool is_same_storage(const Device& device, const std::string& path) {
  if (device.path() == path) return true;
  const Identity* const known = identity_of(device);
  if (known == nullptr) return false;
  const auto named = identify(path);
  return named && named.value().is_same(*known);
}

bool is_same_storage(const Device& one, const Device& other) {
  const Identity* const a = identity_of(one);
  const Identity* const b = identity_of(other);
  if (a == nullptr || b == nullptr) return one.path() == other.path();
  return a->is_same(*b);
}

}  // namespace moltfs::alloc
