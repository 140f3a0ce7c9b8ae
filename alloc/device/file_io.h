// SPDX-License-Identifier: MIT
// What the engines share: a request checked, carried out on the calling thread, and accounted for.
#pragma once

#include "alloc/device/file_device.h"

namespace moltfs::alloc {

/// The device of a request to one of this folder's engines.
inline FileDevice& file_device_of(const IoRequest& request) {
  return static_cast<FileDevice&>(*request.device);
}

/// Checks `request` against the device. False: it is done with, its result is set.
/// Trips an ASSERT where the alignment that device.h asks for is missing.
bool admit(IoRequest& request);

/// Carries out an admitted request; returns 0 or an errno.
int perform(const IoRequest& request);

/// Sets the result of a request that ended with `err` (0: well) and counts it.
void finish(IoRequest& request, int err);

/// admit, perform, finish.
void run_here(IoRequest& request);

}  // namespace moltfs::alloc
