// SPDX-License-Identifier: MIT
// The engine on io_uring.
#pragma once

#include <memory>

#include "alloc/device/device.h"

namespace moltfs::alloc {

/// For FileDevices. Null if io_uring is not allowed or not built in; errno then says why.
std::unique_ptr<IoEngine> make_uring_engine();

}  // namespace moltfs::alloc
