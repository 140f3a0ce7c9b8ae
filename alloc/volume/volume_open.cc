// SPDX-License-Identifier: MIT
// Volume: creating and opening. Which devices are the members, and which superblock counts.
//
// Opening collects superblocks of one volume until no further device is named. It begins with the
// devices that the user named. Then it finds the devices that the newest member superblock names:
// members, the target of a pending swap, and the predecessor of a swap just done. It tries the
// recorded paths, the hints and all candidates, and always compares the uuid. The newest *member*
// superblock counts; of two equally new ones the one without `predecessor` (the swap had failed,
// see volume.h). So the result does not depend on which members the user named.
//
// A recorded path is a hint, and a uuid is only a name that anybody can write on a device. A member
// that was found is believed only if it knows this volume (check_member()): it has the same device
// table, and either its last commit is that of the superblock that counts, or it missed exactly that
// commit, as a crash explains, and has the chunk table that the commit wrote before. (Copy 1 of a
// superblock is written after the flush of copy 0 on all members. So where a member has copy 1 of
// the last commit, no other one has missed that.) A member that missed more was put back from an
// older copy, or is an impostor: the volume is refused, and nothing was written to it. (With
// `degraded` it is left out.) One that missed the last commit gets its superblock when the volume is
// opened for writing, before anything else is written: so no member ever misses two.
//
// Devices that are out, as the newest superblock says, are not opened. They need not be there. But
// if one is found that has gone on by itself, the volume has two histories, and the user must say
// which one counts.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>
#include <tuple>

#include "alloc/base/assert.h"
#include "alloc/base/log.h"
#include "alloc/base/size_text.h"
#include "alloc/base/uuid.h"
#include "alloc/device/same_storage.h"
#include "alloc/disk/chunk_table.h"
#include "alloc/disk/format.h"
#include "alloc/disk/log_batch.h"
#include "alloc/disk/peek.h"
#include "alloc/disk/volume_settings.h"
#include "alloc/volume/volume.h"

namespace moltfs::alloc {

namespace {

/// An error whose message begins with the device's path.
Error about(const std::string& path, const Error& error) {
  const std::string text = error.message();
  if (text.find(path) != std::string::npos) return error;
  return Error(error.code, fmt::format("{}: {}", path, text));
}

bool has_lost_blocks(const Superblock& superblock) {
  return (superblock.compatible_features & format::kFeatureHasLostBlocks) != 0;
}

Error was_replaced(const std::string& path, const Superblock& superblock) {
  std::string text = fmt::format("{} was replaced by {} ({}) and is no longer part of volume {}",
                                 path, superblock.successor->uuid.to_string(),
                                 superblock.successor->path, superblock.volume.to_string());
  if (has_lost_blocks(superblock)) {
    text += "; blocks that only it has could not be read: it can be mounted read-only (-o ro)";
  }
  return Error(Errc::replaced_device, std::move(text));
}

/// The superblock of a replaced device with lost blocks, as that of the member that it was. The
/// commit that swapped wrote everything to this device as well.
Superblock before_swap(Superblock superblock, const Device& device) {
  DeviceEntry& entry = superblock.devices.front();
  entry.uuid = superblock.device;
  entry.path = recordable_path(device.path());
  entry.size_bytes = round_down(device.size_bytes(), kBlockSize);
  superblock.role = DeviceRole::member;
  superblock.compatible_features &= ~format::kFeatureHasLostBlocks;
  superblock.replace_payload.clear();
  superblock.pending_swap.reset();
  superblock.predecessor.reset();
  superblock.successor.reset();
  return superblock;
}

/// A device that was out and is being brought back: it lacks something.
bool comes_back(const Superblock& superblock) {
  const auto is_it = [&](const DeviceEntry& entry) { return entry.uuid == superblock.device; };
  return superblock.role == DeviceRole::target &&
         std::any_of(superblock.devices.begin(), superblock.devices.end(), is_it);
}

class Opening {
 public:
  Opening(DeviceOpener& opener, const Volume::OpenOptions& options)
      : opener_(opener), options_(options) {}

  /// Adds the devices that the user named. Errors: see Volume::open.
  Result<void> offer_all(const std::vector<std::string>& paths);
  /// Finds the devices that the newest superblock names, and decides which superblock counts.
  void gather();
  /// Checks that all members are there, that none was replaced, and that none is shorter than
  /// recorded. REQUIRES: gather() was called.
  Result<void> check();
  Result<ChunkList> read_chunks() const;
  /// Writes the superblock that counts to the members that missed the last commit. Durable.
  Result<void> complete_last_commit();

  /// Valid after check().
  const Superblock& truth() const { return truth_; }
  const std::vector<DeviceEntry>& entries() const { return entries_; }
  const Map::Devices& devices() const { return devices_; }

 private:
  struct Found {
    std::string path;
    std::shared_ptr<Device> device;  ///< null: its superblock was read, but it is not claimed
    Superblock superblock;
    bool offered = false;
  };
  struct Named {
    DeviceId devid;
    Uuid uuid;
    std::string path;
  };

  Result<void> offer(const std::string& path);
  Result<void> check_offered() const;
  Result<std::shared_ptr<Device>> open_exclusively(const std::string& path);
  std::optional<Superblock> peek(const std::string& path);
  void find(const Named& named);
  bool find_at(const std::string& path, const Named& named);
  std::vector<Named> named_by(const Superblock& superblock) const;
  const Found* newest() const;
  const Found* found(const Uuid& uuid) const;
  Result<void> check_swap() const;
  Result<void> check_superseded() const;
  bool has_device_table(const Superblock& superblock) const;
  bool missed_last_commit(const Superblock& superblock) const;
  Result<void> check_member(const Found& found) const;
  Result<void> check_chunk_table(const Found& found, Device& device) const;
  Result<std::shared_ptr<Device>> claim(const Found& found);
  Result<std::shared_ptr<Device>> take_member(DeviceEntry& entry, uint64_t& room);
  Result<void> take_members();
  Result<void> write_superblocks(const std::vector<DeviceEntry>& on, unsigned copy);
  std::vector<DeviceEntry> without_second_copy();
  void leave_out(DeviceId devid, const Error& why);
  std::optional<Error> was_put_back(const DeviceEntry& late) const;
  Result<void> check_late_members();
  Result<void> check_absent(const DeviceEntry& entry) const;
  Error missing(const DeviceEntry& entry) const;

  DeviceOpener& opener_;
  const Volume::OpenOptions& options_;
  std::vector<Found> found_;
  std::set<Uuid> searched_;
  std::map<std::string, std::optional<Superblock>> peeked_;
  std::optional<std::vector<std::string>> candidates_;
  Superblock truth_;
  std::vector<DeviceEntry> entries_;
  Map::Devices devices_;
  std::vector<DeviceEntry> behind_;  // members that missed the last commit
};

Result<std::shared_ptr<Device>> Opening::open_exclusively(const std::string& path) {
  DeviceOpener::Options how;
  how.read_only = options_.read_only;
  auto device = opener_.open(path, how);
  if (!device) return about(path, device.error());
  return device;
}

/// A degraded volume does without devices that cannot be used, if there is any that can.
Result<void> Opening::offer_all(const std::vector<std::string>& paths) {
  Result<void> first = ok();
  for (const std::string& path : paths) {
    auto offered = offer(path);
    if (offered) continue;
    if (!options_.degraded || offered.error() == Errc::invalid_argument) return offered;
    log_warning("going on without {}: {}", path, offered.error().message());
    if (first) first = std::move(offered);
  }
  if (found_.empty()) return first;
  return check_offered();
}

Result<void> Opening::offer(const std::string& path) {
  for (const Found& other : found_) {
    if (!is_same_storage(*other.device, path)) continue;
    return Error(Errc::invalid_argument,
                 other.path == path ? fmt::format("{} is given twice", path)
                                    : fmt::format("{} and {} are one device", other.path, path));
  }
  TRY(auto device, open_exclusively(path));
  auto read = read_superblock(opener_.engine(), *device);
  if (!read && read.error() == Errc::not_found) {
    return Error(Errc::bad_superblock, fmt::format("{}: there is no moltfs on it", path));
  }
  if (!read) return about(path, read.error());
  Superblock sb = std::move(read).value();
  if (sb.role == DeviceRole::target && !comes_back(sb)) {
    return Error(Errc::bad_target,
                 fmt::format("{} is the unfinished target of a replace of devid {} of volume {}; "
                             "mount that volume by its own devices",
                             path, sb.devid.value, sb.volume.to_string()));
  }
  if (sb.role == DeviceRole::replaced) {
    if (!has_lost_blocks(sb) || !options_.read_only || sb.devices.size() != 1) {
      return was_replaced(path, sb);
    }
    sb = before_swap(std::move(sb), *device);
  }
  if (!found_.empty() && found_.front().superblock.volume != sb.volume) {
    return Error(Errc::bad_superblock, fmt::format("{} belongs to volume {}, {} to volume {}", path,
                                                   sb.volume.to_string(), found_.front().path,
                                                   found_.front().superblock.volume.to_string()));
  }
  if (const Found* other = found(sb.device)) {
    return Error(Errc::invalid_argument,
                 fmt::format("{} and {} both say that they are device {}; one is a copy of the "
                             "other",
                             other->path, path, sb.device.to_string()));
  }
  found_.push_back({path, std::move(device), std::move(sb), true});
  return ok();
}

/// Error: bad_target if none of the devices that the user named is a member.
Result<void> Opening::check_offered() const {
  if (newest() != nullptr) return ok();
  const Found& first = found_.front();
  return Error(
      Errc::bad_target,
      fmt::format("{} (devid {}, uuid {}) was out and has not got everything back that it "
                  "missed; mount volume {} by its other devices",
                  first.path, first.superblock.devid.value, first.superblock.device.to_string(),
                  first.superblock.volume.to_string()));
}

const Opening::Found* Opening::found(const Uuid& uuid) const {
  for (const Found& f : found_) {
    if (f.superblock.device == uuid) return &f;
  }
  return nullptr;
}

const Opening::Found* Opening::newest() const {
  const Found* best = nullptr;
  auto rank = [](const Found& f) {
    const auto& devices = f.superblock.devices;
    const auto out = std::count_if(devices.begin(), devices.end(),
                                   [](const DeviceEntry& entry) { return entry.out.has_value(); });
    return std::tuple(f.superblock.generation, !f.superblock.predecessor, out);
  };
  for (const Found& f : found_) {
    if (f.superblock.role != DeviceRole::member) continue;
    if (best == nullptr || rank(f) > rank(*best)) best = &f;
  }
  return best;
}

std::vector<Opening::Named> Opening::named_by(const Superblock& sb) const {
  std::vector<Named> all;
  for (const DeviceEntry& entry : sb.devices) all.push_back({entry.devid, entry.uuid, entry.path});
  for (const auto& other : {sb.pending_swap, sb.predecessor}) {
    if (other) all.push_back({other->devid, other->uuid, other->path});
  }
  return all;
}

/// The superblock of the device at `path`, which is not claimed. Nothing if there is none.
std::optional<Superblock> Opening::peek(const std::string& path) {
  auto [entry, is_new] = peeked_.try_emplace(path);
  if (is_new) {
    auto superblock = peek_superblock(opener_, path);
    if (superblock) entry->second = std::move(superblock).value();
  }
  return entry->second;
}

bool Opening::find_at(const std::string& path, const Named& named) {
  const auto seen = peek(path);
  if (!seen || seen->volume != found_.front().superblock.volume || seen->device != named.uuid) {
    return false;
  }
  found_.push_back({path, nullptr, *seen, false});
  return true;
}

void Opening::find(const Named& named) {
  std::vector<std::string> places = options_.hints;
  if (!named.path.empty()) places.insert(places.begin(), named.path);
  for (const std::string& path : places) {
    if (find_at(path, named)) return;
  }
  if (!options_.search) return;
  if (!candidates_) candidates_ = opener_.candidates();
  for (const std::string& path : *candidates_) {
    if (find_at(path, named)) return;
  }
}

void Opening::gather() {
  for (bool more = true; more;) {
    more = false;
    for (const Named& named : named_by(newest()->superblock)) {
      if (found(named.uuid) != nullptr || !searched_.insert(named.uuid).second) continue;
      find(named);
      more = true;
    }
  }
  truth_ = newest()->superblock;
}

Error Opening::missing(const DeviceEntry& entry) const {
  return Error(
      Errc::missing_device,
      fmt::format("devid {} of volume {} is missing: device {}, last seen as {}; say where "
                  "it is with -o device=PATH, or go on without it with -o degraded",
                  entry.devid.value, truth_.volume.to_string(), entry.uuid.to_string(),
                  entry.path.empty() ? "(path not recorded)" : entry.path));
}

/// A swap may be half done: the superblocks of both devices must have been read.
Result<void> Opening::check_swap() const {
  if (const auto& pending = truth_.pending_swap) {
    if (found(pending->uuid) == nullptr && !options_.abandon_swap) {
      return Error(
          Errc::missing_device,
          fmt::format("devid {} was about to be replaced by device {} ({}), which may hold the "
                      "newer state but cannot be found; say where it is with -o device=PATH, or "
                      "go on without it with -o abandon-replace",
                      pending->devid.value, pending->uuid.to_string(), pending->path));
    }
  }
  if (const auto& before = truth_.predecessor) {
    if (found(before->uuid) == nullptr) {
      log_info("devid {} has replaced device {} ({}), which is not there any more",
               before->devid.value, before->uuid.to_string(), before->path);
    }
  }
  return ok();
}

/// Refuses devices that the user named and that are not members, according to the superblock that
/// counts. Accepts the other device of a swap that was interrupted, if the superblock that counts
/// knows it: that a device names another one proves nothing.
Result<void> Opening::check_superseded() const {
  for (const Found& f : found_) {
    const Superblock& sb = f.superblock;
    auto is_it = [&](const DeviceEntry& e) { return e.uuid == sb.device; };
    if (!f.offered || std::any_of(truth_.devices.begin(), truth_.devices.end(), is_it)) continue;
    auto by = std::find_if(truth_.devices.begin(), truth_.devices.end(),
                           [&](const DeviceEntry& e) { return e.devid == sb.devid; });
    if (by == truth_.devices.end()) {
      return Error(Errc::bad_superblock, fmt::format("{} is no longer part of volume {}", f.path,
                                                     truth_.volume.to_string()));
    }
    // Of one mount: nobody else knows its log id.
    const bool is_known =
        sb.log_id == truth_.log_id || (truth_.predecessor && truth_.predecessor->uuid == sb.device);
    const bool swap_was_done = is_known && sb.pending_swap && sb.pending_swap->uuid == by->uuid;
    const bool swap_had_failed = is_known && sb.predecessor && sb.predecessor->uuid == by->uuid;
    if (!swap_was_done && !swap_had_failed) {
      return Error(Errc::replaced_device,
                   fmt::format("{} was replaced by {} ({}) and is no longer part of volume {}",
                               f.path, by->uuid.to_string(), by->path, truth_.volume.to_string()));
    }
    log_info("{}: its replace was interrupted {}; going on with {} as devid {}", f.path,
             swap_was_done ? "when the new device had taken its place" : "before it was done",
             by->uuid.to_string(), by->devid.value);
  }
  return ok();
}

/// Whether the superblock names the devices that the one that counts names. The commit of a swap
/// exchanges one of them; a member that missed this commit still names the predecessor.
bool Opening::has_device_table(const Superblock& sb) const {
  const auto is_same = [this](const DeviceEntry& ours, const DeviceEntry& theirs) {
    if (ours.devid != theirs.devid) return false;
    const auto& before = truth_.predecessor;
    return ours.uuid == theirs.uuid ||
           (before && before->devid == ours.devid && before->uuid == theirs.uuid);
  };
  return std::equal(truth_.devices.begin(), truth_.devices.end(), sb.devices.begin(),
                    sb.devices.end(), is_same);
}

/// The generation grows by 1 with each commit; by kReplayStep with the first one of a mount that
/// replayed the fsync log.
bool Opening::missed_last_commit(const Superblock& sb) const {
  const bool is_other_mount = sb.log_id != truth_.log_id;
  return sb.generation + 1 == truth_.generation ||
         (is_other_mount && sb.generation + kReplayStep == truth_.generation);
}

/// Error: bad_superblock if the member does not know this volume, or is older than a crash explains.
Result<void> Opening::check_member(const Found& f) const {
  const Superblock& sb = f.superblock;
  const auto refuse = [&](std::string_view why) {
    return Error(
        Errc::bad_superblock,
        fmt::format("{} (devid {}, uuid {}) {}; the volume was not opened, and nothing was "
                    "changed",
                    f.path, sb.devid.value, sb.device.to_string(), why));
  };
  const bool is_same_commit = sb.generation == truth_.generation && sb.log_id == truth_.log_id &&
                              sb.chunk_table == truth_.chunk_table;
  if (!is_same_commit && !missed_last_commit(sb)) {
    if (sb.generation == truth_.generation) {
      return refuse(
          fmt::format("has another history than {}: both have generation {}, written by "
                      "different mounts",
                      newest()->path, sb.generation.value));
    }
    return refuse(
        fmt::format("is out of date: it has generation {}, {} has {}; it was put back from "
                    "an older copy, or belongs to another volume with the same uuid",
                    sb.generation.value, newest()->path, truth_.generation.value));
  }
  if (!has_device_table(sb)) {
    return refuse(fmt::format("does not know the devices that {} names", newest()->path));
  }
  return ok();
}

/// A member that missed the last commit has the chunk table of that commit: it was written and
/// flushed on all members before the first superblock.
Result<void> Opening::check_chunk_table(const Found& f, Device& device) const {
  if (f.superblock.generation == truth_.generation) return ok();
  const auto chunks = read_chunk_table(opener_.engine(), device, truth_, truth_.devices);
  if (chunks) return ok();
  return Error(
      Errc::bad_superblock,
      fmt::format("{} (devid {}, uuid {}) has generation {} and not the chunk table of "
                  "generation {}, which {} has; the volume was not opened, and nothing was "
                  "changed",
                  f.path, f.superblock.devid.value, f.superblock.device.to_string(),
                  f.superblock.generation.value, truth_.generation.value, newest()->path));
}

/// Opens a member of which only the superblock was read.
Result<std::shared_ptr<Device>> Opening::claim(const Found& f) {
  if (f.device) return f.device;
  TRY(auto device, open_exclusively(f.path));
  // Before it was claimed, others may have written to it.
  auto again = read_superblock(opener_.engine(), *device);
  if (!again) return about(f.path, again.error());
  if (again.value() == f.superblock) return device;
  return Error(Errc::device_in_use,
               fmt::format("{} was changed by somebody else while it was being opened", f.path));
}

/// Opens a member that was found, and checks that it is one. Sets the size and path in `entry`.
/// `room`: bytes by which devices may have grown.
Result<std::shared_ptr<Device>> Opening::take_member(DeviceEntry& entry, uint64_t& room) {
  const Found* f = found(entry.uuid);
  if (f == nullptr || f->superblock.role != DeviceRole::member) return missing(entry);
  TRY(check_member(*f));
  TRY(auto device, claim(*f));
  TRY(check_chunk_table(*f, *device));
  const uint64_t size = round_down(device->size_bytes(), kBlockSize);
  if (size < entry.size_bytes) {
    return Error(Errc::device_too_small,
                 fmt::format("{} has {} bytes ({}), but {} bytes ({}) are recorded for devid {}",
                             f->path, device->size_bytes(), human_size(device->size_bytes()),
                             entry.size_bytes, human_size(entry.size_bytes), entry.devid.value));
  }
  if (f->superblock.generation != truth_.generation) behind_.push_back(entry);
  const uint64_t grown = std::min(size - entry.size_bytes, room);
  room -= grown;
  entry.size_bytes += grown;
  entry.path = recordable_path(device->path());
  return device;
}

Result<void> Opening::take_members() {
  uint64_t room = kMaxVolumeBytes;  // for devices that have grown
  for (const DeviceEntry& entry : truth_.devices) room -= entry.size_bytes;
  entries_ = truth_.devices;
  for (DeviceEntry& entry : entries_) {
    if (entry.out) {
      TRY(check_absent(entry));
      log_warning(
          "devid {} (uuid {}, last seen as {}) is out since generation {}; the volume is "
          "degraded",
          entry.devid.value, entry.uuid.to_string(), entry.path, entry.out->whole_until.value);
    } else {
      auto device = take_member(entry, room);
      if (device) {
        devices_[entry.devid] = std::move(device).value();
      } else if (options_.degraded) {
        leave_out(entry.devid, device.error());
      } else {
        return device.error();
      }
    }
  }
  TRY(check_late_members());
  if (devices_.empty()) return Error(Errc::missing_device, "no device of the volume can be used");
  found_.clear();  // closes the devices that are not members
  return ok();
}

/// An error if no crash explains why a member missed the last commit.
std::optional<Error> Opening::was_put_back(const DeviceEntry& late) const {
  const Superblock& own = found(late.uuid)->superblock;
  for (const auto& member : devices_) {
    const DeviceId devid = member.first;
    Device& device = *member.second;
    // A device that has just taken its place has both copies before the others have any.
    const bool came_with_commit =
        (truth_.predecessor && truth_.predecessor->devid == devid) ||
        std::any_of(own.devices.begin(), own.devices.end(),
                    [&](const DeviceEntry& e) { return e.devid == devid && e.out; });
    if (devid == late.devid || came_with_commit) continue;
    const auto copy = read_superblock_copy(opener_.engine(), device, 1);
    if (!copy || copy.value().generation != truth_.generation) continue;
    return Error(
        Errc::bad_superblock,
        fmt::format("{} (devid {}, uuid {}) has generation {}, but the commit of generation {} was "
                    "complete, as {} says; it was put back from an older copy; the volume was not "
                    "opened, and nothing was changed",
                    found(late.uuid)->path, late.devid.value, late.uuid.to_string(),
                    own.generation.value, truth_.generation.value, device.path()));
  }
  return std::nullopt;
}

Result<void> Opening::check_late_members() {
  std::vector<DeviceEntry> late;
  late.swap(behind_);
  for (DeviceEntry& entry : late) {
    const auto why = was_put_back(entry);
    if (!why) {
      behind_.push_back(std::move(entry));
      continue;
    }
    if (!options_.degraded) return *why;
    leave_out(entry.devid, *why);
  }
  return ok();
}

/// A device that is out keeps the superblock that it was left with.
Result<void> Opening::check_absent(const DeviceEntry& entry) const {
  const Found* f = found(entry.uuid);
  if (f == nullptr || f->superblock.role != DeviceRole::member) return ok();
  const Superblock& sb = f->superblock;
  // It was about to come back, and the power failed when that had failed: no history of its own.
  const bool came_back = sb.generation == truth_.generation && sb.log_id == truth_.log_id;
  const bool went_on = !came_back && sb.generation > entry.out->whole_until &&
                       !entry.out->left(sb.generation, sb.log_id);
  if (!went_on || options_.degraded) return ok();
  return Error(Errc::bad_superblock,
               fmt::format("{} (devid {}, uuid {}) and {} were written to separately since "
                           "generation {}: they have generations {} and {} now. Take away the one "
                           "whose changes you do not want, or go on with {} with -o degraded",
                           f->path, entry.devid.value, entry.uuid.to_string(), newest()->path,
                           entry.out->whole_until.value, sb.generation.value,
                           truth_.generation.value, newest()->path));
}

Result<void> Opening::check() {
  TRY(check_superseded());
  TRY(check_swap());
  if (!options_.read_only && !leaves_generations(truth_.generation)) {
    return Error(Errc::bad_superblock,
                 fmt::format("volume {} is at generation {}, too close to the last one that is "
                             "possible: it can only be mounted read-only",
                             truth_.volume.to_string(), truth_.generation.value));
  }
  if (options_.abandon_swap) truth_.pending_swap.reset();
  return take_members();
}

/// In the order of a commit: copy 0 on the members that missed it, flush, copy 1 on all that have an
/// older one, flush. The next commit overwrites copy 0 first: if the power fails then, copy 1 must
/// be that of the last commit, as what only the commit before reaches may have been overwritten.
Result<void> Opening::complete_last_commit() {
  TRY(write_superblocks(behind_, 0));
  TRY(write_superblocks(without_second_copy(), 1));
  for (const DeviceEntry& entry : behind_) {
    const auto device = devices_.find(entry.devid);
    if (device == devices_.end()) continue;
    log_info("{}: had missed the last commit, {}", device->second->path(), truth_.generation.value);
  }
  return ok();
}

/// Writes one copy of the superblock that counts to these members, and flushes them.
Result<void> Opening::write_superblocks(const std::vector<DeviceEntry>& on, unsigned copy) {
  for (const DeviceEntry& entry : on) {
    const auto device = devices_.find(entry.devid);
    if (device == devices_.end()) continue;
    Superblock own = truth_;
    own.role = DeviceRole::member;
    own.devid = entry.devid;
    own.device = entry.uuid;
    TRY(auto buffer, encode(own, copy));
    auto written = opener_.engine().write(*device->second, kSuperblockOffsets[copy], buffer.span());
    if (written) written = opener_.engine().flush(*device->second);
    if (written) continue;
    const Error error = about(device->second->path(), written.error());
    if (!options_.degraded) return error;
    leave_out(entry.devid, error);
    if (devices_.empty()) return error;
  }
  return ok();
}

void Opening::leave_out(DeviceId devid, const Error& why) {
  log_warning("going on without devid {}: {}", devid.value, why.message());
  devices_.erase(devid);
  for (DeviceEntry& entry : entries_) {
    if (entry.devid == devid) entry.out = Absence{truth_.generation, truth_.log_id, 0};
  }
}

/// Members that have copy 0 of the last commit, and not copy 1.
std::vector<DeviceEntry> Opening::without_second_copy() {
  std::vector<DeviceEntry> all;
  const auto has = [this](Device& device, unsigned copy) {
    const auto superblock = read_superblock_copy(opener_.engine(), device, copy);
    return superblock && superblock.value().generation == truth_.generation;
  };
  for (const DeviceEntry& entry : entries_) {
    const auto device = devices_.find(entry.devid);
    if (device == devices_.end()) continue;
    if (has(*device->second, 0) && !has(*device->second, 1)) all.push_back(entry);
  }
  return all;
}

Result<ChunkList> Opening::read_chunks() const {
  std::optional<Error> first;
  for (const auto& [devid, device] : devices_) {
    auto chunks = read_chunk_table(opener_.engine(), *device, truth_, entries_);
    if (chunks) return chunks;
    if (!first) first = about(device->path(), chunks.error());
  }
  if (*first == Errc::checksum_mismatch) first->code = Errc::bad_chunk_table;
  return *first;
}

Result<void> check_devices_for_create(const std::vector<std::shared_ptr<Device>>& devices) {
  if (devices.empty() || devices.size() > kMaxDevices) {
    return Error(Errc::invalid_argument,
                 fmt::format("{} devices: a volume has 1 to {}", devices.size(), kMaxDevices));
  }
  uint64_t total = 0;
  std::set<const Device*> seen;
  for (const auto& device : devices) {
    if (!seen.insert(device.get()).second) {
      return Error(Errc::invalid_argument, fmt::format("{} is named twice", device->path()));
    }
    if (device->size_bytes() < kMinDeviceBytes) {
      return Error(Errc::device_too_small,
                   fmt::format("{} has {}, a device needs at least {}", device->path(),
                               human_size(device->size_bytes()), human_size(kMinDeviceBytes)));
    }
    total += device->size_bytes();
  }
  if (total < kMinVolumeBytes) {
    return Error(Errc::device_too_small,
                 fmt::format("{}{} {}, a volume needs at least {}", devices.front()->path(),
                             devices.size() > 1 ? " and the others have together" : " has",
                             human_size(total), human_size(kMinVolumeBytes)));
  }
  return ok();
}

Result<void> check_create_options(const Volume::CreateOptions& options, size_t device_count) {
  TRY(check_label(options.label));
  if (options.chunk_size != 0) {
    TRY(check_chunk_size(options.chunk_size));
  }
  for (Profile profile : {options.data_profile, options.metadata_profile}) {
    const size_t needed = devices_needed(profile);
    if (device_count < needed) {
      return Error(Errc::invalid_argument,
                   fmt::format("profile {} needs {} devices, but {} {} given", name_of(profile),
                               needed, device_count, device_count == 1 ? "was" : "were"));
    }
  }
  return ok();
}

}  // namespace

Result<std::unique_ptr<Volume>> Volume::create(Runtime& runtime, DeviceOpener& opener,
                                               std::vector<std::shared_ptr<Device>> devices,
                                               const CreateOptions& options) {
  TRY(check_devices_for_create(devices));
  TRY(check_create_options(options, devices.size()));
  Superblock superblock;
  superblock.volume = Uuid::generate(runtime);
  superblock.label = options.label;
  superblock.next_logical = LogicalOffset(kFirstLogical);
  superblock.data_profile = options.data_profile;
  superblock.metadata_profile = options.metadata_profile;
  if (has_many_copies(options.data_profile) || has_many_copies(options.metadata_profile)) {
    superblock.incompatible_features |= format::kFeatureManyCopies;
  }
  Map::Devices by_devid;
  uint64_t room = kMaxVolumeBytes;
  for (auto& device : devices) {
    const DeviceId devid(by_devid.size() + 1);
    const uint64_t size = round_down(std::min(device->size_bytes(), room), kBlockSize);
    room -= size;
    superblock.devices.push_back(
        {devid, Uuid::generate(runtime), size, recordable_path(device->path())});
    by_devid[devid] = std::move(device);
  }
  superblock.devid = superblock.devices.front().devid;
  superblock.device = superblock.devices.front().uuid;
  superblock.chunk_size =
      options.chunk_size != 0 ? options.chunk_size : default_chunk_size(superblock.devices);
  auto entries = superblock.devices;
  return std::unique_ptr<Volume>(new Volume(runtime, opener, false, std::move(superblock),
                                            std::move(entries), std::move(by_devid), ChunkList()));
}

Result<std::unique_ptr<Volume>> Volume::open(Runtime& runtime, DeviceOpener& opener,
                                             std::vector<std::string> paths,
                                             const OpenOptions& options) {
  if (paths.empty()) return Error(Errc::invalid_argument, "no device was named");
  Opening opening(opener, options);
  TRY(opening.offer_all(paths));
  opening.gather();
  TRY(opening.check());
  TRY(auto chunks, opening.read_chunks());
  if (!options.read_only) {
    TRY(opening.complete_last_commit());
  }
  Superblock superblock = opening.truth();
  superblock.role = DeviceRole::member;
  superblock.devid = first_in(opening.entries()).devid;
  superblock.device = first_in(opening.entries()).uuid;
  // If devices have grown, chunks of the old size could make the table too long.
  superblock.chunk_size = std::max(superblock.chunk_size, default_chunk_size(opening.entries()));
  std::unique_ptr<Volume> volume(new Volume(runtime, opener, options.read_only,
                                            std::move(superblock), opening.entries(),
                                            opening.devices(), std::move(chunks)));
  if (!options.ignore_log) volume->find_log();
  const auto map = volume->mapper_.current();
  if (const size_t lost = map->chunks_lost(); lost > 0) {
    Error error(Errc::missing_device,
                fmt::format("{} of the {} chunks of the volume have no copy on the devices that "
                            "are there",
                            lost, map->chunks().size()));
    if (!options.read_only) {
      return Error(error.code, error.message() + "; it can only be mounted read-only (-o ro)");
    }
    log_warning("{}", error.message());
  }
  return volume;
}

}  // namespace moltfs::alloc
