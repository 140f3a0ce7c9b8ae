// SPDX-License-Identifier: MIT
// Validating, encoding, decoding and describing superblocks.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

#include "alloc/base/checksum.h"
#include "alloc/base/codec.h"
#include "alloc/base/load.h"
#include "alloc/base/size_text.h"
#include "alloc/base/utf8.h"
#include "alloc/disk/format.h"
#include "alloc/disk/log_batch.h"
#include "alloc/disk/superblock.h"
#include "alloc/disk/volume_settings.h"

namespace moltfs::alloc {

namespace {

using format::SuperblockHeader;

template <class... Args>
Error bad(fmt::format_string<Args...> text, Args&&... args) {
  return Error(Errc::bad_superblock,
               "superblock: " + fmt::format(text, std::forward<Args>(args)...));
}

std::string_view name_of(DeviceRole role) {
  switch (role) {
    case DeviceRole::member:
      return "member";
    case DeviceRole::target:
      return "target";
    case DeviceRole::replaced:
      return "replaced";
  }
  return "?";
}

bool is_text(std::string_view text, size_t max_bytes) {
  return text.size() <= max_bytes && text.find('\0') == std::string_view::npos;
}

const DeviceEntry* find_entry(const Superblock& sb, const Uuid& uuid) {
  for (const DeviceEntry& entry : sb.devices) {
    if (entry.uuid == uuid) return &entry;
  }
  return nullptr;
}

bool any_out(const Superblock& sb) {
  return std::any_of(sb.devices.begin(), sb.devices.end(),
                     [](const DeviceEntry& entry) { return entry.out.has_value(); });
}

bool has_devid(const Superblock& sb, DeviceId devid) {
  for (const DeviceEntry& entry : sb.devices) {
    if (entry.devid == devid) return true;
  }
  return false;
}

Result<void> validate_devices(const Superblock& sb) {
  if (sb.devices.empty() || sb.devices.size() > kMaxDevices) {
    return bad("{} devices; 1 to {} are possible", sb.devices.size(), kMaxDevices);
  }
  std::set<Uuid> uuids;
  DeviceId last;
  uint64_t total = 0;
  for (const DeviceEntry& entry : sb.devices) {
    if (entry.devid <= last || entry.devid.value > UINT32_MAX) {
      return bad("device table: devid {} follows devid {}", entry.devid.value, last.value);
    }
    last = entry.devid;
    if (entry.uuid.is_nil() || !uuids.insert(entry.uuid).second) {
      return bad("devid {}: uuid {} is nil or used twice", last.value, entry.uuid.to_string());
    }
    if (entry.size_bytes < kMinDeviceBytes || entry.size_bytes > kMaxVolumeBytes ||
        entry.size_bytes % kBlockSize != 0) {
      return bad("devid {}: size {} is impossible", last.value, entry.size_bytes);
    }
    total += entry.size_bytes;
    if (total > kMaxVolumeBytes) {
      return bad("the devices have more than {} bytes together", kMaxVolumeBytes);
    }
    if (!is_text(entry.path, kMaxPathBytes))
      return bad("devid {}: path is too long or has a zero byte", last.value);
  }
  return ok();
}

Result<void> validate_succession(const Superblock& sb,
                                 const std::optional<Superblock::Succession>& succession,
                                 std::string_view field) {
  if (!succession) return ok();
  if (!has_devid(sb, succession->devid)) {
    return bad("{}: devid {} is not in the device table", field, succession->devid.value);
  }
  if (succession->uuid.is_nil()) return bad("{}: uuid is nil", field);
  if (!is_text(succession->path, kMaxPathBytes))
    return bad("{}: path is too long or has a zero byte", field);
  return ok();
}

Result<void> validate_absences(const Superblock& sb) {
  const bool has_feature = (sb.incompatible_features & format::kFeatureDevicesOut) != 0;
  if (any_out(sb) != has_feature) return bad("devices that are out do not fit the features");
  bool any_in = false;
  for (const DeviceEntry& entry : sb.devices) {
    any_in |= !entry.out.has_value();
    if (!entry.out) continue;
    if (entry.out->whole_until.value == 0 || entry.out->whole_until > sb.generation) {
      return bad("devid {}: out since generation {}, superblock of {}", entry.devid.value,
                 entry.out->whole_until.value, sb.generation.value);
    }
  }
  if (!any_in) return bad("all devices are out");
  return ok();
}

/// Fields about the device that holds the superblock, and about swaps.
Result<void> validate_role(const Superblock& sb) {
  if (sb.device.is_nil()) return bad("device uuid is nil");
  const DeviceEntry* own = find_entry(sb, sb.device);
  switch (sb.role) {
    case DeviceRole::member:
      if (own == nullptr || own->devid != sb.devid) {
        return bad("member {} is not devid {} of the device table", sb.device.to_string(),
                   sb.devid.value);
      }
      if (own->out) return bad("member {} is out", sb.device.to_string());
      break;
    case DeviceRole::target:
      // A device that comes back is a target with its own uuid.
      if (own != nullptr && own->devid == sb.devid && own->out) break;
      [[fallthrough]];
    case DeviceRole::replaced:
      if (own != nullptr || !has_devid(sb, sb.devid)) {
        return bad("{} {} of devid {} does not fit the device table", name_of(sb.role),
                   sb.device.to_string(), sb.devid.value);
      }
      break;
    default:
      return bad("role {} is unknown", static_cast<unsigned>(sb.role));
  }
  if (sb.successor.has_value() != (sb.role == DeviceRole::replaced)) {
    return bad("role {} {} a successor", name_of(sb.role), sb.successor ? "with" : "without");
  }
  TRY(validate_succession(sb, sb.pending_swap, "pending_swap"));
  TRY(validate_succession(sb, sb.predecessor, "predecessor"));
  TRY(validate_succession(sb, sb.successor, "successor"));
  if (sb.pending_swap && find_entry(sb, sb.pending_swap->uuid) != nullptr) {
    return bad("pending_swap: {} is a member already", sb.pending_swap->uuid.to_string());
  }
  if (sb.predecessor && find_entry(sb, sb.predecessor->uuid) != nullptr) {
    return bad("predecessor: {} is still a member", sb.predecessor->uuid.to_string());
  }
  return ok();
}

bool is_profile(Profile profile) {
  return std::find(kAllProfiles.begin(), kAllProfiles.end(), profile) != kAllProfiles.end();
}

Result<void> validate_space(const Superblock& sb) {
  if (!is_valid_chunk_size(sb.chunk_size)) {
    return bad("chunk size {} is impossible", sb.chunk_size);
  }
  if (!is_profile(sb.data_profile) || !is_profile(sb.metadata_profile)) {
    return bad("profiles {}, {}: unknown", static_cast<unsigned>(sb.data_profile),
               static_cast<unsigned>(sb.metadata_profile));
  }
  if ((has_many_copies(sb.data_profile) || has_many_copies(sb.metadata_profile)) &&
      (sb.incompatible_features & format::kFeatureManyCopies) == 0) {
    return bad("profiles {}, {} do not fit the features", name_of(sb.data_profile),
               name_of(sb.metadata_profile));
  }
  if (sb.next_logical.value % kNodeSize != 0 || sb.next_logical.value > kMaxLogical) {
    return bad("next logical address {:#x} is impossible", sb.next_logical.value);
  }
  const ChunkTableRef& table = sb.chunk_table;
  if (table.slot > 1) return bad("chunk table slot {}: there are only 0 and 1", table.slot);
  if (table.length < sizeof(format::ChunkTableHeader) || table.length > kChunkTableMaxBytes) {
    return bad("chunk table of {} bytes is impossible", table.length);
  }
  if (table.generation.value == 0 || table.generation > sb.generation) {
    return bad("chunk table of generation {}, superblock of {}", table.generation.value,
               sb.generation.value);
  }
  return ok();
}

void put_succession(ByteWriter& body, const std::optional<Superblock::Succession>& succession) {
  if (!succession) return;
  body.u64(succession->devid.value);
  body.uuid(succession->uuid);
  body.string(succession->path);
}

Result<std::optional<Superblock::Succession>> get_succession(ByteReader& body, bool present) {
  std::optional<Superblock::Succession> none;
  if (!present) return none;
  Superblock::Succession succession;
  TRY(auto devid, body.u64());
  TRY(succession.uuid, body.uuid());
  TRY(succession.path, body.string());
  succession.devid = DeviceId(devid);
  return std::optional(std::move(succession));
}

void put_absences(ByteWriter& body, const Superblock& sb) {
  if (!any_out(sb)) return;
  const auto count = std::count_if(sb.devices.begin(), sb.devices.end(),
                                   [](const DeviceEntry& entry) { return entry.out.has_value(); });
  body.u16(static_cast<uint16_t>(count));
  for (const DeviceEntry& entry : sb.devices) {
    if (!entry.out) continue;
    body.u64(entry.devid.value);
    body.u64(entry.out->whole_until.value);
    body.u64(entry.out->log_id);
    body.u64(entry.out->drop_log_id);
  }
}

Result<void> get_absences(ByteReader& body, Superblock& sb) {
  TRY(const auto count, body.u16());
  if (count == 0) return bad("no device is out, but the part for them is there");
  DeviceId last;
  for (unsigned i = 0; i < count; ++i) {
    Absence absence;
    TRY(const auto devid, body.u64());
    TRY(const auto whole_until, body.u64());
    TRY(absence.log_id, body.u64());
    TRY(absence.drop_log_id, body.u64());
    absence.whole_until = Generation(whole_until);
    const auto entry = std::find_if(sb.devices.begin(), sb.devices.end(),
                                    [&](const auto& e) { return e.devid.value == devid; });
    if (entry == sb.devices.end() || DeviceId(devid) <= last) {
      return bad("devid {} is out, but not in the device table, or not in its order", devid);
    }
    last = DeviceId(devid);
    entry->out = absence;
  }
  return ok();
}

std::vector<std::byte> encode_body(const Superblock& sb) {
  ByteWriter body;
  body.string(sb.label);
  for (const DeviceEntry& entry : sb.devices) {
    body.u64(entry.devid.value);
    body.uuid(entry.uuid);
    body.u64(entry.size_bytes);
    body.string(entry.path);
  }
  body.blob(sb.fs_payload);
  body.blob(sb.replace_payload);
  put_succession(body, sb.pending_swap);
  put_succession(body, sb.predecessor);
  put_succession(body, sb.successor);
  put_absences(body, sb);
  return body.take();
}

Result<void> decode_body(const SuperblockHeader& header, ConstBytes bytes, Superblock& sb) {
  ByteReader body(bytes, Errc::bad_superblock);
  TRY(sb.label, body.string());
  for (unsigned i = 0; i < header.device_count; ++i) {
    DeviceEntry entry;
    TRY(auto devid, body.u64());
    TRY(entry.uuid, body.uuid());
    TRY(entry.size_bytes, body.u64());
    TRY(entry.path, body.string());
    entry.devid = DeviceId(devid);
    sb.devices.push_back(std::move(entry));
  }
  TRY(auto fs_payload, body.blob());
  TRY(auto replace_payload, body.blob());
  sb.fs_payload.assign(fs_payload.begin(), fs_payload.end());
  sb.replace_payload.assign(replace_payload.begin(), replace_payload.end());
  const unsigned parts = header.optional_parts;
  TRY(sb.pending_swap, get_succession(body, (parts & format::kHasPendingSwap) != 0));
  TRY(sb.predecessor, get_succession(body, (parts & format::kHasPredecessor) != 0));
  TRY(sb.successor, get_succession(body, (parts & format::kHasSuccessor) != 0));
  if ((parts & format::kHasDevicesOut) != 0) {
    TRY(get_absences(body, sb));
  }
  if (!body.at_end()) return bad("the body has {} bytes too many", body.left());
  return ok();
}

SuperblockHeader make_header(const Superblock& sb, unsigned copy, size_t body_length) {
  SuperblockHeader header{};
  header.magic = format::kSuperblockMagic;
  header.length = static_cast<uint32_t>(round_up(sizeof(header) + body_length, kBlockSize));
  header.version = format::kSuperblockVersion;
  header.copy = static_cast<uint8_t>(copy);
  header.role = static_cast<uint8_t>(sb.role);
  header.volume = sb.volume.bytes;
  header.device = sb.device.bytes;
  header.devid = sb.devid.value;
  header.generation = sb.generation.value;
  header.incompatible_features = sb.incompatible_features;
  header.compatible_features = sb.compatible_features;
  header.log_id = sb.log_id;
  header.chunk_size = sb.chunk_size;
  header.next_logical = sb.next_logical.value;
  header.table_checksum = sb.chunk_table.checksum;
  header.table_generation = sb.chunk_table.generation.value;
  header.table_length = sb.chunk_table.length;
  header.table_slot = sb.chunk_table.slot;
  header.optional_parts = static_cast<uint8_t>((sb.pending_swap ? format::kHasPendingSwap : 0) |
                                               (sb.predecessor ? format::kHasPredecessor : 0) |
                                               (sb.successor ? format::kHasSuccessor : 0) |
                                               (any_out(sb) ? format::kHasDevicesOut : 0));
  header.device_count = static_cast<uint16_t>(sb.devices.size());
  header.body_length = static_cast<uint32_t>(body_length);
  header.data_profile = static_cast<uint8_t>(sb.data_profile);
  header.metadata_profile = static_cast<uint8_t>(sb.metadata_profile);
  return header;
}

/// XXH3-64 of `bytes`, computed with the header's checksum field as zero.
uint64_t checksum_without_field(ConstBytes bytes) {
  std::vector<std::byte> copy(bytes.begin(), bytes.end());
  std::memset(copy.data() + offsetof(SuperblockHeader, checksum), 0, sizeof(uint64_t));
  return checksum_of(copy);
}

/// Checks what must be right before any other field can be used: magic, length, checksum, version.
Result<SuperblockHeader> check_frame(ConstBytes bytes, unsigned copy) {
  const auto loaded = load<SuperblockHeader>(bytes);
  if (!loaded) return bad("{} bytes are too few", bytes.size());
  const SuperblockHeader& header = *loaded;
  if (header.magic != format::kSuperblockMagic) return Error(Errc::not_found, "no moltfs here");
  const uint64_t length = header.length;
  if (length < kBlockSize || length > kSuperblockMaxBytes || length % kBlockSize != 0 ||
      length > bytes.size()) {
    return bad("length {} is impossible", length);
  }
  if (checksum_without_field(bytes.first(length)) != header.checksum) {
    return bad("checksum does not match");
  }
  if (header.version != format::kSuperblockVersion) {
    return Error(Errc::unsupported_feature,
                 fmt::format("superblock: format version {}, this program knows version {}",
                             uint16_t{header.version}, format::kSuperblockVersion));
  }
  if (header.copy != copy)
    return bad("this is copy {}, found at the offset of copy {}", header.copy, copy);
  if (header.body_length > length - sizeof(header) ||
      length != round_up(sizeof(header) + header.body_length, kBlockSize)) {
    return bad("body of {} bytes in {}", uint32_t{header.body_length}, length);
  }
  for (std::byte b : bytes.first(length).subspan(sizeof(header) + header.body_length)) {
    if (b != std::byte{0}) return bad("padding is not zero");
  }
  return header;
}

Result<void> check_features(uint64_t incompatible) {
  const uint64_t unknown = incompatible & ~format::kKnownIncompatible;
  if (unknown == 0) return ok();
  return Error(Errc::unsupported_feature,
               fmt::format("superblock: incompatible feature bit {} is not known to this program",
                           std::countr_zero(unknown)));
}

}  // namespace

Result<void> validate(const Superblock& sb) {
  TRY(check_features(sb.incompatible_features));
  if (sb.volume.is_nil()) return bad("volume uuid is nil");
  if (sb.generation.value == 0) return bad("generation is 0");
  if (sb.generation > kMaxGeneration) {
    return bad("generation {} is impossible: the last one is {}", sb.generation.value,
               kMaxGeneration.value);
  }
  const bool has_log = (sb.incompatible_features & format::kFeatureFsyncLog) != 0;
  if (has_log != (sb.log_id != 0)) return bad("log id {} does not fit the features", sb.log_id);
  if (!is_text(sb.label, kMaxLabelBytes)) {
    return bad("label is longer than {} bytes or has a zero byte", kMaxLabelBytes);
  }
  if (sb.fs_payload.size() > format::kMaxFsPayload) {
    return bad("fs payload of {} bytes", sb.fs_payload.size());
  }
  if (sb.replace_payload.size() > format::kMaxReplacePayload) {
    return bad("replace payload of {} bytes", sb.replace_payload.size());
  }
  TRY(validate_devices(sb));
  TRY(validate_absences(sb));
  TRY(validate_space(sb));
  return validate_role(sb);
}

bool Absence::left(Generation generation, uint64_t id) const {
  return (generation == whole_until && id == log_id) ||
         (id == drop_log_id &&
          (generation == whole_until + 1 || generation == whole_until + kReplayStep));
}

void update_features(Superblock& sb) {
  sb.incompatible_features &= ~format::kFeatureDevicesOut;
  if (any_out(sb)) sb.incompatible_features |= format::kFeatureDevicesOut;
}

const DeviceEntry& first_in(const std::vector<DeviceEntry>& devices) {
  const auto found = std::find_if(devices.begin(), devices.end(),
                                  [](const DeviceEntry& entry) { return !entry.out; });
  ASSERT(found != devices.end());
  return *found;
}

uint64_t encoded_length(ConstBytes first_block) {
  const auto header = load<SuperblockHeader>(first_block);
  ASSERT(header.has_value());
  if (header->magic != format::kSuperblockMagic || header->length > kSuperblockMaxBytes) {
    return kBlockSize;
  }
  return std::max(kBlockSize, round_up(header->length, kBlockSize));
}

std::string recordable_path(const std::string& path) {
  return is_text(path, kMaxPathBytes) ? path : std::string();
}

Result<AlignedBuffer> encode(const Superblock& sb, unsigned copy) {
  ASSERT(copy < 2);
  auto valid = validate(sb);
  if (!valid) return Error(Errc::invalid_argument, valid.error().message());
  const auto body = encode_body(sb);
  SuperblockHeader header = make_header(sb, copy, body.size());
  // The limits of all parts add up to less than the maximum (see FORMAT.md).
  ASSERT(header.length <= kSuperblockMaxBytes);
  AlignedBuffer buffer(header.length);
  buffer.fill_zero();
  store(buffer.span(), header);
  std::memcpy(buffer.data() + sizeof(header), body.data(), body.size());
  header.checksum = checksum_without_field(buffer.span());
  store(buffer.span(), header);
  return buffer;
}

Result<Superblock> decode_superblock(ConstBytes bytes, unsigned copy) {
  TRY(auto header, check_frame(bytes, copy));
  TRY(check_features(header.incompatible_features));
  if (!format::all_zero(header.reserved)) return bad("reserved bytes are not zero");
  if ((header.optional_parts & ~(format::kHasPendingSwap | format::kHasPredecessor |
                                 format::kHasSuccessor | format::kHasDevicesOut)) != 0) {
    return bad("unknown optional parts {:#x}", header.optional_parts);
  }
  Superblock sb;
  sb.volume.bytes = header.volume;
  sb.generation = Generation(header.generation);
  sb.incompatible_features = header.incompatible_features;
  sb.compatible_features = header.compatible_features;
  sb.log_id = header.log_id;
  sb.chunk_size = header.chunk_size;
  sb.data_profile = static_cast<Profile>(header.data_profile);
  sb.metadata_profile = static_cast<Profile>(header.metadata_profile);
  sb.next_logical = LogicalOffset(header.next_logical);
  sb.chunk_table = {header.table_slot, header.table_length, header.table_checksum,
                    Generation(header.table_generation)};
  sb.role = static_cast<DeviceRole>(header.role);
  sb.devid = DeviceId(header.devid);
  sb.device.bytes = header.device;
  TRY(decode_body(header, bytes.subspan(sizeof(header), header.body_length), sb));
  TRY(validate(sb));
  return sb;
}

std::string describe(const Superblock& sb) {
  std::string out;
  auto line = [&out](std::string_view name, const std::string& value) {
    out += fmt::format("{:<22}{}\n", name, value);
  };
  auto succession = [](const Superblock::Succession& s) {
    return fmt::format("devid {} by {} ({})", s.devid.value, s.uuid.to_string(), printable(s.path));
  };
  line("volume", sb.volume.to_string());
  line("label", printable(sb.label));
  line("generation", fmt::format("{}", sb.generation.value));
  line("role", fmt::format("{} of devid {}", name_of(sb.role), sb.devid.value));
  line("device", sb.device.to_string());
  line("incompatible features", fmt::format("{:#x}", sb.incompatible_features));
  line("compatible features", fmt::format("{:#x}", sb.compatible_features));
  line("log id", fmt::format("{:016x}", sb.log_id));
  line("chunk size", fmt::format("{} ({})", sb.chunk_size, human_size(sb.chunk_size)));
  line("profiles",
       fmt::format("data {}, metadata {}", name_of(sb.data_profile), name_of(sb.metadata_profile)));
  line("next logical", fmt::format("{:#x}", sb.next_logical.value));
  line("chunk table", fmt::format("slot {}, {} bytes, generation {}, checksum {:016x}",
                                  sb.chunk_table.slot, sb.chunk_table.length,
                                  sb.chunk_table.generation.value, sb.chunk_table.checksum));
  for (const DeviceEntry& entry : sb.devices) {
    line(fmt::format("devid {}", entry.devid.value),
         fmt::format("{} {} bytes ({}) {}", entry.uuid.to_string(), entry.size_bytes,
                     human_size(entry.size_bytes), printable(entry.path)));
    if (!entry.out) continue;
    line("  out",
         fmt::format("whole until generation {}, log id {:016x}, left by {:016x}",
                     entry.out->whole_until.value, entry.out->log_id, entry.out->drop_log_id));
  }
  line("fs payload", fmt::format("{} bytes", sb.fs_payload.size()));
  line("replace payload", fmt::format("{} bytes", sb.replace_payload.size()));
  if (sb.pending_swap) line("pending swap", succession(*sb.pending_swap));
  if (sb.predecessor) line("predecessor", succession(*sb.predecessor));
  if (sb.successor) line("replaced", succession(*sb.successor));
  return out;
}

}  // namespace moltfs::alloc
