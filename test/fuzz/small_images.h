// SPDX-License-Identifier: MIT
// Small volumes with every kind of item and in every state of a replace, made by the product in
// memory. A check of one takes a millisecond; of a golden image, a hundred.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "test/support/memory_device.h"

namespace moltfs::fuzz {

struct SmallImage {
  std::string name;
  std::vector<std::shared_ptr<test::MemoryDisk>> disks;
};

/// The same bytes in each process. Ends the program if the product cannot make one.
std::vector<SmallImage> make_small_images();

}  // namespace moltfs::fuzz
