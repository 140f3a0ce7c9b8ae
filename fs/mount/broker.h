// SPDX-License-Identifier: MIT
// What the control interface needs from outside the daemon: who a caller is, and a target that he
// names. The daemon itself sees no other process and opens no path.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "alloc/base/error.h"

namespace moltfs::fs {

/// Who makes a request, as the kernel says with it. He waits in the kernel for the answer (a killed
/// process, too), so his number cannot become that of another process meanwhile.
struct CallingProcess {
  uint32_t uid = 0;  ///< by which the kernel checks access to files
  int32_t pid = 0;   ///< of the thread; 0 if it is in a PID namespace that the daemon does not see
};

class Broker {
 public:
  virtual ~Broker() = default;
  /// Error: not_permitted, with a sentence, unless the caller has CAP_SYS_ADMIN in the user
  /// namespace of the mount or in one above it. Also if that cannot be found out.
  virtual Result<void> check_admin(const CallingProcess& caller) = 0;
  /// The supplementary groups of the caller. Errors: as check_admin.
  virtual Result<std::vector<uint32_t>> groups_of(const CallingProcess& caller) = 0;

  // Both give the descriptors of a device for DeviceOpener::adopt. `path` is absolute.

  /// Opens `path` for reading, writing and exclusive use as the caller would: with his rights, in
  /// his mount namespace. Succeeds only if the device is blank (alloc/device/blank.h), or if it was
  /// retired by a replace and nobody has used it since. Errors, with a sentence:
  /// foreign_signature (it is neither), device_in_use, access_denied, not_found, invalid_argument.
  virtual Result<std::vector<int>> open_blank(const CallingProcess& caller,
                                              const std::string& path) = 0;
  /// The target that the caller has put into his socket `number` (fs/mount/control_call.h), for
  /// exclusive use. `path` is for messages. Errors, with a sentence: device_in_use, access_denied,
  /// invalid_argument.
  virtual Result<std::vector<int>> take_target(const CallingProcess& caller, int number,
                                               const std::string& path) = 0;
};

}  // namespace moltfs::fs
