// SPDX-License-Identifier: MIT
// The engine on threads.
#pragma once

#include <memory>

#include "alloc/device/device.h"

namespace moltfs::alloc {

/// For FileDevices. A batch is shared by `threads` threads and its caller. They start with the
/// first batch of more than one request.
std::unique_ptr<IoEngine> make_thread_engine(Runtime& runtime, unsigned threads);

}  // namespace moltfs::alloc
