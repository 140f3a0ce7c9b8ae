// SPDX-License-Identifier: MIT
// The parts of a request that both engines share: checking it, carrying it out on the calling
// thread, and counting it.
#pragma once

#include "alloc/device/file_device.h"

namespace moltfs::alloc {

/// The device of a request. REQUIRES: it is a FileDevice, as for all engines of this folder.
inline FileDevice& file_device_of(const IoRequest& request) {
  return static_cast<FileDevice&>(*request.device);
}

/// Checks `request` against the device. False: there is nothing to carry out, and the result is
/// set. REQUIRES: the alignment that device.h demands.
bool admit(IoRequest& request);

/// Carries out an admitted request; returns 0 or an errno.
int perform(const IoRequest& request);

/// Sets the result of a request that ended with errno `err` (0: success), and counts it.
void finish(IoRequest& request, int err);

/// admit, perform, finish.
void run_here(IoRequest& request);

}  // namespace moltfs::alloc
