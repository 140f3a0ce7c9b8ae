// SPDX-License-Identifier: MIT
// The control interface: its endpoints, who may use them, and what they do.
#include "fs/mount/control.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "alloc/base/blocking.h"
#include "alloc/base/json.h"
#include "alloc/device/same_storage.h"
#include "alloc/disk/volume_settings.h"
#include "fs/mount/failed_writes.h"
#include "fs/mount/process_identity.h"
#include "replace/command.h"

namespace moltfs::fs {

const std::vector<Control::Endpoint>& Control::endpoints() {
  static const std::vector<Endpoint> all = {
      {Topic::replace, "replace", false, true}, {Topic::message, "message", false, false},
      {Topic::usage, "usage", true, false},     {Topic::devices, "devices", true, false},
      {Topic::label, "label", true, true},      {Topic::sync, "sync", false, true},
      {Topic::pid, "pid", true, false},         {Topic::options, "options", true, true},
      {Topic::errors, "errors", false, false},
  };
  return all;
}

const Control::Endpoint* Control::find(std::string_view name) {
  const auto& all = endpoints();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Endpoint& e) { return e.name == name; });
  return found == all.end() ? nullptr : &*found;
}

Result<std::string> Control::get(Topic topic, uint32_t uid) {
  const Endpoint& endpoint = endpoints()[static_cast<size_t>(topic)];
  if (!endpoint.readable_by_all && !may_command(uid)) return Errc::not_permitted;
  switch (topic) {
    case Topic::replace:
      return replace::to_json(mount_.replace().status());
    case Topic::message: {
      std::lock_guard lock(mutex_);
      const auto found = messages_.find(uid);
      return found == messages_.end() ? std::string() : found->second;
    }
    case Topic::usage:
      return usage_json(mount_);
    case Topic::devices:
      return devices_json(mount_);
    case Topic::label:
      return mount_.volume().superblock().label;
    case Topic::sync:
      return std::string();
    case Topic::pid:
      return process_identity();
    case Topic::options:
      return to_words(mount_.filesystem().policy());
    case Topic::errors:
      return replace::errors_json(mount_.replace());
  }
  return Errc::no_attribute;
}

Result<void> Control::set(Topic topic, std::string_view text, uint32_t uid) {
  const Endpoint& endpoint = endpoints()[static_cast<size_t>(topic)];
  if (!may_command(uid) || !endpoint.settable) return Errc::not_permitted;
  auto result = carry_out(topic, text);
  std::lock_guard lock(mutex_);
  messages_[uid] = result ? std::string() : result.error().message();
  return result;
}

Result<void> Control::carry_out(Topic topic, std::string_view text) {
  switch (topic) {
    case Topic::replace: {
      // The command may name a path on this mount, and waits until that request is served.
      announce_blocking();
      TRY(auto command, replace::parse_command(text));
      TRY(replace::execute(mount_.replace(), command));
      return ok();
    }
    case Topic::sync:
      return mount_.filesystem().commit();
    case Topic::label:
      return set_label(text);
    case Topic::options:
      return set_options(text);
    default:
      return Errc::not_permitted;
  }
}

Result<void> Control::set_label(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  TRY(alloc::check_label(text));
  if (mount_.volume().read_only()) return Errc::read_only;
  mount_.volume().set_label(std::string(text));
  TRY(mount_.transactions().commit(true));
  return ok();
}

Result<void> Control::set_options(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  Policy policy = mount_.filesystem().policy();
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(','));
    if (!take_policy_word(word, policy)) {
      return Error(Errc::invalid_argument,
                   fmt::format("a mounted volume cannot change its option \"{}\"", word));
    }
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  mount_.filesystem().set_policy(policy);
  // A commit that found no room on a device is tried again by a remount.
  if (mount_.transactions().obstacle()) {
    TRY(mount_.transactions().commit());
  }
  return ok();
}

std::string usage_json(Mount& mount) {
  const alloc::SpaceUsage usage = mount.volume().space().usage();
  const alloc::Superblock super = mount.volume().superblock();
  const auto statistics = mount.filesystem().statistics();
  const Statistics files = statistics ? statistics.value() : Statistics{};
  const auto fatal = mount.transactions().fatal();
  const auto commit_seconds = static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::seconds>(mount.options().commit_interval).count());
  const Json json = Json::object({
      {"volume", super.volume.to_string()},
      {"label", super.label},
      {"generation", mount.transactions().durable().value},
      {"read_only", mount.volume().read_only() || fatal.has_value()},
      {"read_only_reason", fatal},
      {"commit_waits_for", mount.transactions().obstacle()},
      {"total_bytes", files.total_bytes},
      {"free_bytes", files.free_bytes},
      {"available_bytes", files.available_bytes},
      {"inodes", files.inode_count - files.free_inode_count},
      {"device_bytes", usage.device_bytes},
      {"unallocated_bytes", usage.unallocated_bytes},
      {"data_profile", alloc::name_of(super.data_profile)},
      {"data_chunk_bytes", usage.data_chunk_bytes},
      {"data_used_bytes", usage.data_used_bytes},
      {"metadata_profile", alloc::name_of(super.metadata_profile)},
      {"metadata_chunk_bytes", usage.metadata_chunk_bytes},
      {"metadata_used_bytes", usage.metadata_used_bytes},
      {"pinned_bytes", usage.pinned_bytes},
      {"cache_bytes", mount.options().cache_bytes},
      {"commit_seconds", commit_seconds},
      {"failed_cached_writes", failed_cached_writes.load()},
  });
  return json.compact() + "\n";
}

std::string devices_json(Mount& mount) {
  Json devices = Json::list();
  for (const alloc::DeviceEntry& entry : mount.volume().devices()) {
    Json one = Json::object({{"devid", entry.devid.value},
                             {"uuid", entry.uuid.to_string()},
                             {"path", entry.path},
                             {"size_bytes", entry.size_bytes}});
    if (const auto device = mount.volume().device(entry.devid)) {
      if (const alloc::Identity* identity = alloc::identity_of(*device)) {
        one.add("storage", to_text(identity->id));
      }
      const alloc::DeviceCounters& counters = device->counters();
      one.add("read_bytes", counters.read_bytes.load());
      one.add("written_bytes", counters.written_bytes.load());
      one.add("read_errors", counters.read_errors.load());
      one.add("write_errors", counters.write_errors.load());
      one.add("flush_errors", counters.flush_errors.load());
      one.add("checksum_errors", counters.checksum_errors.load());
    }
    devices.append(std::move(one));
  }
  const alloc::Superblock super = mount.volume().superblock();
  const Json json = Json::object({{"volume", super.volume.to_string()},
                                  {"label", super.label},
                                  {"devices", std::move(devices)}});
  return json.compact() + "\n";
}

}  // namespace moltfs::fs
