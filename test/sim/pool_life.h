// SPDX-License-Identifier: MIT
// One life of a volume of several devices under the seeded scheduler. Clients fill and change it.
// Devices fail, vanish and come back, never more at once than the profiles survive. The power is
// cut, the volume is mounted again, with and without the devices that failed. Nothing that was
// synced may be lost, no read may be wrong, no operation may fail.
#pragma once

#include "test/sim/life.h"

namespace moltfs::sim {

LifeResult live_in_pool(const LifeOptions& options);

}  // namespace moltfs::sim
