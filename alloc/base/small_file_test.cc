// SPDX-License-Identifier: MIT
#include "alloc/base/small_file.h"

#include "test/support/catch.h"

namespace moltfs {
namespace {

TEST_CASE("a small file is read to its end") {
  const auto text = read_small_file("/proc/self/status");
  REQUIRE(text);
  CHECK(text->starts_with("Name:"));
  CHECK(text->ends_with("\n"));
}

TEST_CASE("a file that is absent, or whose reading fails, has no content") {
  CHECK_FALSE(read_small_file("/proc/self/no-such-file"));
  CHECK_FALSE(read_small_file("/proc/self/mem"));  // nothing is mapped at address 0: EIO
  CHECK_FALSE(read_small_file("/proc/self"));      // EISDIR
}

TEST_CASE("a number is read from the beginning of a file") {
  CHECK(read_number("/proc/sys/kernel/pid_max") > 300);
  CHECK_FALSE(read_number("/proc/self/status"));
  CHECK_FALSE(read_number("/proc/self/no-such-file"));
}

}  // namespace
}  // namespace moltfs
