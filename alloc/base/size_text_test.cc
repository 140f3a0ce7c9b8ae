// SPDX-License-Identifier: MIT
#include "alloc/base/size_text.h"

#include "test/support/catch.h"

namespace moltfs {
namespace {

TEST_CASE("sizes are formatted with binary units") {
  CHECK(human_size(0) == "0 B");
  CHECK(human_size(512) == "512 B");
  CHECK(human_size(1023) == "1023 B");
  CHECK(human_size(1024) == "1.0 KiB");
  CHECK(human_size(uint64_t{4} << 30) == "4.0 GiB");
  CHECK(human_size((uint64_t{1} << 20) - 1) == "1.0 MiB");
  CHECK(human_size(UINT64_MAX) == "16.0 EiB");
}

TEST_CASE("sizes are parsed, wrong ones are refused") {
  CHECK(parse_size("4096") == 4096);
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("512B") == 512);
  CHECK(parse_size("64M") == uint64_t{64} << 20);
  CHECK(parse_size("64m") == uint64_t{64} << 20);
  CHECK(parse_size("64MB") == uint64_t{64} << 20);
  CHECK(parse_size("1.5GiB") == uint64_t{3} << 29);
  CHECK(parse_size("0.5k") == 512);
  CHECK(parse_size("16T") == uint64_t{16} << 40);
  CHECK(parse_size("15E") == uint64_t{15} << 60);
  CHECK(parse_size("18446744073709551615") == UINT64_MAX);
  for (const char* wrong : {"",
                            "M",
                            "-1",
                            "+1",
                            " 1",
                            "1 ",
                            "1 M",
                            "1.",
                            "1.M",
                            ".5M",
                            "1.5",
                            "1.5B",
                            "1X",
                            "1BB",
                            "1iB",
                            "1MiX",
                            "1MM",
                            "16E",
                            "18446744073709551616",
                            "99999999999999999999999999999",
                            "0x10",
                            "1e3"}) {
    INFO(wrong);
    CHECK_FALSE(parse_size(wrong));
  }
}

}  // namespace
}  // namespace moltfs
