// SPDX-License-Identifier: MIT
// A mounted volume in memory for targets that use it for many inputs.
#pragma once

#include <memory>

#include "alloc/base/runtime.h"

#include "fs/mount/mount.h"
#include "test/support/memory_device.h"

namespace moltfs::fuzz {

class Mounted {
 public:
  /// The golden image all_features, mounted, and a free device "mem:target".
  Mounted();
  ~Mounted();
  fs::Mount& mount() { return *mount_; }

 private:
  RealRuntime runtime_;
  test::MemoryDevices devices_;
  std::unique_ptr<fs::Mount> mount_;
};

}  // namespace moltfs::fuzz
