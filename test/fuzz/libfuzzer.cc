// SPDX-License-Identifier: MIT
// libFuzzer's entry to one target (MOLTFS_FUZZ_TARGET): it gives the bytes that decide.
#include <fmt/format.h>

#include <cstdlib>

#include "alloc/base/log.h"
#include "test/fuzz/base_images.h"
#include "test/fuzz/targets.h"

namespace moltfs::fuzz {

void fail(const std::string& what) {
  fmt::print(stderr, "fuzz: {}\n", what);
  std::abort();
}

}  // namespace moltfs::fuzz

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  moltfs::set_log_sink([](moltfs::LogLevel, const std::string&) {});
  (void)moltfs::fuzz::base_images();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  moltfs::fuzz::Choices choices(std::span(data, size));
  moltfs::fuzz::MOLTFS_FUZZ_TARGET(choices);
  return 0;
}
