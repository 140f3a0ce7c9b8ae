// SPDX-License-Identifier: MIT
// The replace record in the superblock.
#include "replace/record.h"

#include <fmt/format.h>

#include "alloc/base/assert.h"
#include "alloc/base/utf8.h"
#include "alloc/disk/format.h"

namespace moltfs::replace {

namespace {

/// No device is longer: its size is an off_t.
constexpr uint64_t kMaxOffset = uint64_t{1} << 63;

Error bad_record(std::string text) {
  return Error(Errc::bad_item, "replace record: " + std::move(text));
}

void write_device(ByteWriter& writer, const alloc::DeviceEntry& device) {
  writer.u64(device.devid.value);
  writer.uuid(device.uuid);
  writer.u64(device.size_bytes);
  writer.string(alloc::recordable_path(device.path));
}

Result<alloc::DeviceEntry> read_device(ByteReader& reader) {
  alloc::DeviceEntry device;
  TRY(device.devid.value, reader.u64());
  TRY(device.uuid, reader.uuid());
  TRY(device.size_bytes, reader.u64());
  TRY(device.path, reader.string());
  return device;
}

/// Calls `visit` for each plain number, in the order in which they are on disk.
template <class RecordType, class Visit>
void for_each_number(RecordType& record, Visit visit) {
  auto& facts = record.facts;
  visit(facts.bytes_total);
  visit(facts.bytes_copied);
  visit(facts.bytes_duplicated);
  visit(facts.bytes_skipped);
  visit(facts.bytes_recopied);
  visit(facts.cursor_left.value);
  visit(facts.errors.read_corrected);
  visit(facts.errors.read_uncorrectable);
  visit(facts.errors.target_write);
  visit(facts.errors.target_flush);
  visit(facts.start_generation.value);
  visit(record.started_right.value);
  visit(record.walk_before.value);
}

/// `entry`: the device that comes back. Before the swap it is out, and the record claims of the
/// time before its absence at most what the device table says.
Result<void> validate_rejoin(const Record& record, const alloc::DeviceEntry& entry) {
  if (!entry.out) {
    if (in_progress(record.facts.state)) return ok();  // after the swap
    return bad_record(
        fmt::format("a suspended rejoin of devid {}, which is not out", entry.devid.value));
  }
  for (const Coverage::Interval& interval : record.coverage.intervals()) {
    const bool before_absence = interval.all && interval.first == Generation(1);
    if (!before_absence || interval.last <= entry.out->whole_until) continue;
    return bad_record(
        fmt::format("coverage {} of devid {}, which is whole until generation {} only",
                    record.coverage.describe(), entry.devid.value, entry.out->whole_until.value));
  }
  return ok();
}

}  // namespace

Result<void> validate(const Record& record) {
  const Status& facts = record.facts;
  if (facts.state > State::failed) {
    return bad_record(fmt::format("state {} is unknown", static_cast<unsigned>(facts.state)));
  }
  if (record.coverage.open() != in_progress(facts.state)) {
    return bad_record(
        fmt::format("state {} with coverage {}", name_of(facts.state), record.coverage.describe()));
  }
  if (facts.reason.size() > kMaxReasonBytes) return bad_record("reason is too long");
  if (facts.state == State::none) return ok();
  for (const alloc::DeviceEntry* device : {&facts.source, &facts.target}) {
    if (device->devid == DeviceId() || device->uuid.is_nil())
      return bad_record("device without devid or uuid");
    if (device->path != alloc::recordable_path(device->path)) {
      return bad_record("path is too long or has a zero byte");
    }
    if (device->size_bytes > kMaxOffset) {
      return bad_record(fmt::format("size {} of a device is impossible", device->size_bytes));
    }
  }
  if (facts.source.devid != facts.target.devid)
    return bad_record("source and target differ in devid");
  if ((facts.source.uuid == facts.target.uuid) != facts.rejoin) {
    return bad_record(facts.rejoin ? "a rejoin of two devices"
                                   : "source and target are one device");
  }
  for (const PhysicalOffset edge : {facts.cursor_left, record.started_right}) {
    if (edge.value > kMaxOffset) {
      return bad_record(fmt::format("offset {} is impossible", edge.value));
    }
  }
  return ok();
}

Result<void> validate_in(const Record& record, const alloc::Superblock& superblock) {
  const Status& facts = record.facts;
  if (facts.state == State::none) return ok();
  const Generation next = superblock.generation + 1;
  const auto is_known = [&](Generation generation) { return generation <= next; };
  for (const Coverage::Interval& interval : record.coverage.intervals()) {
    const bool open = interval.last == kOpenEnd;
    const bool before_absence = facts.rejoin && interval.first == Generation(1);
    if (interval.all && interval.first < facts.start_generation && !before_absence) {
      return bad_record(fmt::format("coverage {} before generation {}, in which the replace began",
                                    record.coverage.describe(), facts.start_generation.value));
    }
    if (open ? is_known(interval.first) : interval.last < next) continue;
    return bad_record(fmt::format("coverage {} in a superblock of generation {}",
                                  record.coverage.describe(), superblock.generation.value));
  }
  if (!is_known(facts.start_generation) || !is_known(record.walk_before)) {
    return bad_record(fmt::format(
        "begun in generation {}, last walk in {}, the superblock is of {}",
        facts.start_generation.value, record.walk_before.value, superblock.generation.value));
  }
  if (!in_progress(facts.state) && facts.state != State::suspended) return ok();
  for (const alloc::DeviceEntry& entry : superblock.devices) {
    if (entry.devid != facts.source.devid) continue;
    if (facts.rejoin && entry.uuid == facts.target.uuid) return validate_rejoin(record, entry);
    // After the swap, and before the commit that says so, the member is the target.
    if (entry.uuid == facts.source.uuid || entry.uuid == facts.target.uuid) return ok();
  }
  return bad_record(fmt::format("the source, devid {} with uuid {}, is not a member",
                                facts.source.devid.value, facts.source.uuid.to_string()));
}

std::vector<std::byte> encode(const Record& record) {
  if (record.facts.state == State::none) return {};
  const Status& facts = record.facts;
  ByteWriter writer;
  const bool has_holes = !record.coverage.holes().empty();
  writer.u16(has_holes ? kRecordVersionWithHoles : kRecordVersion);
  writer.u8(static_cast<uint8_t>(facts.state));
  writer.u8(facts.rejoin ? 1 : 0);
  write_device(writer, facts.source);
  write_device(writer, facts.target);
  writer.u64(static_cast<uint64_t>(facts.started));
  writer.u64(static_cast<uint64_t>(facts.ended));
  for_each_number(record, [&](uint64_t number) { writer.u64(number); });
  writer.string(std::string_view(facts.reason).substr(0, kMaxReasonBytes));
  record.coverage.encode(writer);
  if (has_holes) record.coverage.encode_holes(writer);
  ASSERT(writer.size() <= alloc::format::kMaxReplacePayload);
  return writer.take();
}

Result<Record> decode_record(ConstBytes payload) {
  Record record;
  if (payload.empty()) return record;
  ByteReader reader(payload);
  TRY(auto version, reader.u16());
  if (version != kRecordVersion && version != kRecordVersionWithHoles) {
    return Error(Errc::unsupported_feature,
                 fmt::format("replace record: version {} is unknown", version));
  }
  TRY(auto state, reader.u8());
  TRY(auto kind, reader.u8());
  if (state == 0 || kind > 1) return bad_record("state or kind is wrong");
  Status& facts = record.facts;
  facts.state = static_cast<State>(state);
  facts.rejoin = kind == 1;
  TRY(facts.source, read_device(reader));
  TRY(facts.target, read_device(reader));
  TRY(auto started, reader.u64());
  TRY(auto ended, reader.u64());
  facts.started = static_cast<int64_t>(started);
  facts.ended = static_cast<int64_t>(ended);
  Result<void> numbers = ok();
  for_each_number(record, [&](uint64_t& number) {
    auto value = reader.u64();
    if (value) {
      number = value.value();
    } else {
      numbers = value.error();
    }
  });
  TRY(std::move(numbers));
  TRY(facts.reason, reader.string());
  TRY(record.coverage, Coverage::decode(reader));
  if (version == kRecordVersionWithHoles) {
    TRY(record.coverage.decode_holes(reader));
  }
  if (!reader.at_end()) return bad_record(fmt::format("{} bytes too many", reader.left()));
  TRY(validate(record));
  return record;
}

std::string describe(const Record& record) {
  const Status& facts = record.facts;
  std::string text = fmt::format("state            {}\n", name_of(facts.state));
  if (facts.state == State::none) return text;
  text += fmt::format("kind             {}\n", facts.rejoin ? "rejoin" : "replace");
  auto device = [](const alloc::DeviceEntry& d) {
    return fmt::format("devid {} uuid {} size {} path {}", d.devid.value, d.uuid.to_string(),
                       d.size_bytes, printable(d.path));
  };
  text += fmt::format("source           {}\n", device(facts.source));
  text += fmt::format("target           {}\n", device(facts.target));
  text += fmt::format("started, ended   {}, {}\n", facts.started, facts.ended);
  text += fmt::format("start generation {}\n", facts.start_generation.value);
  text += fmt::format("coverage         {}\n", record.coverage.describe());
  text += fmt::format("cursor left      {}\n", facts.cursor_left.value);
  text += fmt::format("started right    {} (born before {})\n", record.started_right.value,
                      record.walk_before.value);
  text +=
      fmt::format("bytes            total {}, copied {}, duplicated {}, skipped {}, recopied {}\n",
                  facts.bytes_total, facts.bytes_copied, facts.bytes_duplicated,
                  facts.bytes_skipped, facts.bytes_recopied);
  text += fmt::format(
      "errors           read corrected {}, read uncorrectable {}, target write {}, target flush "
      "{}\n",
      facts.errors.read_corrected, facts.errors.read_uncorrectable, facts.errors.target_write,
      facts.errors.target_flush);
  if (!facts.reason.empty()) text += fmt::format("reason           {}\n", facts.reason);
  return text;
}

}  // namespace moltfs::replace
