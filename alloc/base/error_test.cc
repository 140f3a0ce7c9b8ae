// SPDX-License-Identifier: MIT
#include "alloc/base/error.h"

#include <cerrno>
#include <set>
#include <string>

#include "test/support/catch.h"

namespace moltfs {
namespace {

Result<int> half_of(int n) {
  if (n % 2 != 0) return Error(Errc::invalid_argument, "odd");
  return n / 2;
}

Result<int> quarter_of(int n) {
  TRY(const int half, half_of(n));
  TRY(const int quarter, half_of(half));
  return quarter;
}

TEST_CASE("every code has an errno, and a sentence that no other code has") {
  std::set<std::string> sentences;
  for (unsigned i = 1; i <= static_cast<unsigned>(Errc::node_missing); ++i) {
    const auto code = static_cast<Errc>(i);
    CHECK(errno_of(code) > 0);
    CHECK(sentences.insert(std::string(sentence_of(code))).second);
    CHECK(Error(code).message() == sentence_of(code));
    CHECK(Error(code).to_errno() == errno_of(code));
  }
}

TEST_CASE("an errno maps to a code with that errno if there is one") {
  for (unsigned i = 1; i <= static_cast<unsigned>(Errc::cross_device); ++i) {
    const auto code = static_cast<Errc>(i);
    if (code == Errc::no_such_offset) continue;  // ENXIO from the system means device_gone
    INFO(sentence_of(code));
    CHECK(errc_from_errno(errno_of(code)) == code);
  }
  CHECK(errc_from_errno(ENOMEM) == Errc::out_of_memory);
  CHECK(errc_from_errno(ENXIO) == Errc::device_gone);
  CHECK(errc_from_errno(ENODEV) == Errc::device_gone);
  CHECK(errc_from_errno(EIO) == Errc::io_error);
  CHECK(errc_from_errno(EUCLEAN) == Errc::io_error);
  CHECK(errc_from_errno(ENOTTY) == Errc::not_supported);
  CHECK(errc_from_errno(EAGAIN) == Errc::busy);
  CHECK(errc_from_errno(123456) == Errc::io_error);
}

TEST_CASE(
    "a message is the detail if there is one, otherwise the sentence with device and offset") {
  CHECK(Error(Errc::io_error, "sda: it smells").message() == "sda: it smells");
  CHECK(Error(Errc::checksum_mismatch, DeviceId(3), 8192).message() ==
        "the checksum does not match (devid 3, offset 8192)");
  CHECK(Error(Errc::device_gone, DeviceId(3), 0).message() == "the device is gone (devid 3)");
  CHECK(Error(Errc::bad_node, DeviceId(), 4096).message() ==
        "a tree node is damaged (offset 4096)");
}

TEST_CASE("TRY returns the error") {
  CHECK(quarter_of(8).value() == 2);
  const auto odd = quarter_of(6);
  REQUIRE(odd.has_error());
  CHECK(odd.error() == Errc::invalid_argument);
  CHECK(odd.error().message() == "odd");
  CHECK(ok().has_value());
}

}  // namespace
}  // namespace moltfs
