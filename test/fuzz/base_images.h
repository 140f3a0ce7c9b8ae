// SPDX-License-Identifier: MIT
// The volumes that the fuzzer changes, in memory: small ones, which are made anew by each program
// and are the same each time, and the golden images (test/golden), which `pack` has packed into
// corpus/.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "test/fuzz/raw_image.h"
#include "test/support/memory_device.h"

namespace moltfs::fuzz {

/// In a volume of n devices the first n have these paths.
inline constexpr std::array<const char*, 4> kMemberPaths = {"mem:a", "mem:b", "mem:c", "mem:d"};

struct BaseImage {
  std::string name;
  std::vector<std::shared_ptr<test::MemoryDisk>> disks;  ///< at kMemberPaths, in their order
  RawImage raw;
};

/// Where the packed images are. To be set before base_images() is called first.
void set_corpus_folder(const std::string& path);
/// All of them: the small ones, then the golden ones, unpacked by zstd at the first call. Ends the
/// program if one cannot be made or parsed.
const std::vector<BaseImage>& base_images();
/// The number of small ones.
size_t small_image_count();

}  // namespace moltfs::fuzz
