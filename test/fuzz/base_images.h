// SPDX-License-Identifier: MIT
// The volumes that the fuzzer changes: the golden images (test/golden), in memory. `pack` has packed
// them into corpus/.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "test/fuzz/raw_image.h"
#include "test/support/memory_device.h"

namespace moltfs::fuzz {

struct BaseImage {
  std::string name;
  std::vector<std::shared_ptr<test::MemoryDisk>> disks;  ///< a.img, b.img
  RawImage raw;
};

/// Where the packed images are. To be set before base_images() is called first.
void set_corpus_folder(const std::string& path);
/// All of them, unpacked by zstd at the first call. Ends the program if there are none.
const std::vector<BaseImage>& base_images();

}  // namespace moltfs::fuzz
