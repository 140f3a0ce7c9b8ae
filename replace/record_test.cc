// SPDX-License-Identifier: MIT
// Tests of the replace record and of the status JSON.
#include "replace/record.h"

#include <fmt/format.h>

#include <random>

#include "alloc/disk/format.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;

namespace {

Record full_record() {
  Record record;
  Status& facts = record.facts;
  facts.state = State::suspended;
  facts.source = {DeviceId(1), Uuid{{1}}, 1 << 30, "/dev/source"};
  facts.target = {DeviceId(1), Uuid{{2}}, 2u << 30, "/dev/target"};
  facts.started = 1700000000;
  facts.ended = 1700000100;
  facts.bytes_total = 11;
  facts.bytes_copied = 12;
  facts.bytes_duplicated = 13;
  facts.bytes_skipped = 14;
  facts.bytes_recopied = 15;
  facts.cursor_left = PhysicalOffset(16);
  facts.errors = {17, 18, 19, 20};
  facts.start_generation = Generation(21);
  facts.reason = "a \"reason\"";
  record.coverage.arm(Generation(21));
  record.coverage.cursor_reached(PhysicalOffset(16));
  record.coverage.disarm(Generation(30));
  record.started_right = PhysicalOffset(22);
  record.walk_before = Generation(23);
  return record;
}

}  // namespace

TEST_CASE("a record reads back as it was written") {
  const Record record = full_record();
  REQUIRE(decode_record(encode(record)).value() == record);
  REQUIRE(encode(Record()).empty());
  REQUIRE(decode_record({}).value() == Record());
  REQUIRE(describe(record).find("/dev/target") != std::string::npos);
  REQUIRE(describe(Record()).find("none") != std::string::npos);
}

TEST_CASE("a record of a rejoin reads back, and fits only a device that is out") {
  Record record = full_record();
  record.facts.rejoin = true;
  REQUIRE(decode_record(encode(record)).error() == Errc::bad_item);  // two devices
  record.facts.target.uuid = record.facts.source.uuid;
  record.coverage = Coverage();
  record.coverage.claim_until(Generation(9));
  record.coverage.arm(Generation(21));
  record.coverage.disarm(Generation(30));
  REQUIRE(decode_record(encode(record)).value() == record);
  REQUIRE(describe(record).find("rejoin") != std::string::npos);
  alloc::Superblock superblock;
  superblock.generation = Generation(31);
  alloc::DeviceEntry entry = record.facts.target;
  entry.out = alloc::Absence{Generation(9), 1, 2};
  superblock.devices = {entry};
  REQUIRE(validate_in(record, superblock));
  superblock.devices[0].out->whole_until = Generation(8);  // less than what the record claims
  REQUIRE(validate_in(record, superblock).error() == Errc::bad_item);
  superblock.devices[0].out.reset();  // not out any more, but suspended
  REQUIRE(validate_in(record, superblock).error() == Errc::bad_item);
  superblock.devices[0].out = entry.out;
  record.facts.rejoin = false;  // a replace claims nothing of the time before it began
  record.facts.target.uuid = Uuid{{2}};
  REQUIRE(validate_in(record, superblock).error() == Errc::bad_item);
}

TEST_CASE("a record has version 2 if and only if there are holes") {
  Record record = full_record();
  REQUIRE(encode(record)[0] == std::byte{1});
  record.coverage.add_hole({{PhysicalOffset(8192), 4096}, 1, true});
  REQUIRE(encode(record)[0] == std::byte{2});
  REQUIRE(decode_record(encode(record)).value() == record);
  REQUIRE(describe(record).find("hole of 4096 at 8192") != std::string::npos);
}

TEST_CASE("the largest record fits into the superblock") {
  Record record = full_record();
  record.facts.source.path = std::string(5000, 'x');  // is not recorded
  record.facts.target.path = std::string(alloc::kMaxPathBytes, 'y');
  record.facts.reason = std::string(100000, 'z');
  record.coverage = Coverage();
  for (uint64_t g = 2; g < 20000; g += 4) {
    record.coverage.arm(Generation(g));
    record.coverage.cursor_reached(PhysicalOffset(g % 7 + 1));
    record.coverage.disarm(Generation(g + 1));
  }
  for (uint64_t i = 0; i < 2 * Coverage::kMaxHoles; ++i) {
    record.coverage.add_hole({{PhysicalOffset(i * 65536), 4096}, 1, false});
  }
  const auto bytes = encode(record);
  REQUIRE(bytes.size() <= alloc::format::kMaxReplacePayload);
  const Record back = decode_record(bytes).value();
  REQUIRE(back.coverage == record.coverage);
  REQUIRE(back.facts.reason.size() == kMaxReasonBytes);
  REQUIRE(back.facts.source.path.empty());
}

TEST_CASE("inconsistent records are refused") {
  Record record = full_record();
  SECTION("open coverage in a state without duplication") {
    record.coverage.arm(Generation(40));
  }
  SECTION("a state with duplication without open coverage") {
    record.facts.state = State::copying;
  }
  SECTION("source and target are one") {
    record.facts.target.uuid = record.facts.source.uuid;
  }
  SECTION("no devid") {
    record.facts.source.devid = record.facts.target.devid = DeviceId();
  }
  REQUIRE(decode_record(encode(record)).error() == Errc::bad_item);
}

TEST_CASE("an unknown version has an error of its own") {
  auto bytes = encode(full_record());
  bytes[0] = std::byte{9};
  REQUIRE(decode_record(bytes).error() == Errc::unsupported_feature);
}

TEST_CASE("cut, lengthened and rotten records are refused or valid, and never crash") {
  const auto bytes = encode(full_record());
  for (size_t length = 1; length < bytes.size(); ++length) {
    REQUIRE(!decode_record(ConstBytes(bytes).first(length)));
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  REQUIRE(!decode_record(longer));
  std::mt19937 random(2);
  for (int i = 0; i < 50000; ++i) {
    auto rotten = bytes;
    for (unsigned k = random() % 3 + 1; k > 0; --k) {
      rotten[random() % rotten.size()] = static_cast<std::byte>(random());
    }
    auto decoded = decode_record(rotten);
    if (decoded) REQUIRE(validate(decoded.value()));
  }
}

TEST_CASE("the status as JSON has every key") {
  Status status = full_record().facts;
  status.rate = 5;
  status.eta_seconds = 6;
  const std::string json = to_json(status);
  INFO(json);
  const auto has = [&](const std::string& part) {
    INFO(part);
    REQUIRE(json.find(part) != std::string::npos);
  };
  has(R"("state":"suspended")");
  has(R"("source":{"devid":1,"uuid":"01000000-0000-0000-0000-000000000000","path":"/dev/source",)"
      R"("size":1073741824})");
  has(R"("target":{"devid":1,)");
  has(R"("started":1700000000,"ended":1700000100)");
  has(R"("bytes_total":11,"bytes_copied":12,"bytes_duplicated":13,"bytes_skipped":14)");
  has(R"("bytes_recopied":15)");
  has(R"("cursor_left":16,"rate":5,"eta_seconds":6)");
  has(R"("errors":{"read_corrected":17,"read_uncorrectable":18,"target_write":19,"target_flush":20})");
  has(R"("start_generation":21,"reason":"a \"reason\"")");
  REQUIRE(json.front() == '{');
  REQUIRE(json.back() == '}');
}

TEST_CASE("JSON of an empty status, and of names that are not text") {
  const std::string none = to_json(Status());
  REQUIRE(none.find(R"("state":"none","source":null,"target":null,"started":null)") !=
          std::string::npos);
  Status status = full_record().facts;
  status.target.path =
      "/dev/\xff\xc3\x28\n\x7f"
      "\xc3\xa4\xed\xa0\x80\\";
  const std::string json = to_json(status);
  INFO(json);
  REQUIRE(json.find("/dev/\\ufffd\\ufffd(\\u000a\\u007f\xc3\xa4\\ufffd\\ufffd\\ufffd\\\\\"") !=
          std::string::npos);
}

TEST_CASE("the share that is copied is never more than one") {
  Status status;
  REQUIRE(fraction_done(status) == 0);
  status.bytes_total = 100;
  status.bytes_copied = 25;
  REQUIRE(fraction_done(status) == 0.25);
  status.bytes_copied = 150;
  REQUIRE(fraction_done(status) == 1);
  status.bytes_total = status.bytes_copied = 0;
  status.state = State::finished;
  REQUIRE(fraction_done(status) == 1);
}
