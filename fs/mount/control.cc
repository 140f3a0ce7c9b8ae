// SPDX-License-Identifier: MIT
// The control interface: its endpoints, who may use them, and what they do.
#include "fs/mount/control.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "alloc/base/blocking.h"
#include "alloc/base/json.h"
#include "alloc/base/utf8.h"
#include "alloc/device/same_storage.h"
#include "alloc/disk/volume_settings.h"
#include "alloc/volume/space_breakdown.h"
#include "fs/mount/failed_writes.h"
#include "fs/mount/process_identity.h"

namespace moltfs::fs {

namespace {

/// Opens the target of one command by the broker, everything else as the volume does.
class TargetOpener final : public alloc::DeviceOpener {
 public:
  TargetOpener(alloc::DeviceOpener& opener, Broker& broker, const CallingProcess& caller,
               int socket)
      : opener_(opener), broker_(broker), caller_(caller), socket_(socket) {}

  Result<std::shared_ptr<alloc::Device>> open(const std::string& path,
                                              const Options& options) override {
    TRY(auto descriptors, socket_ >= 0 ? broker_.take_target(caller_, socket_, path)
                                       : broker_.open_blank(caller_, path));
    return opener_.adopt(std::move(descriptors), path, options);
  }
  alloc::IoEngine& engine() override { return opener_.engine(); }
  Result<std::optional<std::string>> signature(alloc::Device& device) override {
    return opener_.signature(device);
  }
  std::vector<std::string> candidates() override { return opener_.candidates(); }

 private:
  alloc::DeviceOpener& opener_;
  Broker& broker_;
  const CallingProcess caller_;
  const int socket_;
};

Error control_is_off() {
  return Error(Errc::not_supported,
               "the control of this mount is off: it was mounted with -o control=off");
}

}  // namespace

Control::Control(Mount& mount, const Options& options)
    : mount_(mount), options_(options), identity_(process_identity()) {}

const std::vector<Control::Endpoint>& Control::endpoints() {
  static const std::vector<Endpoint> all = {
      {Topic::replace, "replace", true}, {Topic::message, "message"},
      {Topic::usage, "usage"},           {Topic::devices, "devices"},
      {Topic::label, "label", true},     {Topic::sync, "sync", true},
      {Topic::pid, "pid", false, true},  {Topic::options, "options", true},
      {Topic::errors, "errors"},
  };
  return all;
}

const Control::Endpoint* Control::find(std::string_view name) {
  const auto& all = endpoints();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Endpoint& e) { return e.name == name; });
  return found == all.end() ? nullptr : &*found;
}

Result<void> Control::check_may_command(const CallingProcess& caller) {
  if (options_.owner_may_command && caller.uid == options_.owner) return ok();
  if (options_.broker != nullptr) return options_.broker->check_admin(caller);
  return Error(Errc::not_permitted, "only the user who mounted may do that");
}

Result<std::string> Control::get(Topic topic, const CallingProcess& caller) {
  if (!endpoints()[static_cast<size_t>(topic)].readable_by_all) {
    if (options_.level == Level::off) return control_is_off();
    TRY(check_may_command(caller));
  }
  switch (topic) {
    case Topic::replace:
      return replace::to_json(mount_.replace().status());
    case Topic::message: {
      std::lock_guard lock(mutex_);
      const auto found = messages_.find(caller.uid);
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
      return identity_;
    case Topic::options:
      return to_words(mount_.filesystem().policy());
    case Topic::errors:
      return replace::errors_json(mount_.replace());
  }
  return Errc::no_attribute;
}

Result<void> Control::set(Topic topic, std::string_view text, const CallingProcess& caller,
                          Interface interface, int socket) {
  if (options_.level == Level::off) return control_is_off();
  TRY(check_may_command(caller));
  const Endpoint& endpoint = endpoints()[static_cast<size_t>(topic)];
  auto result = [&]() -> Result<void> {
    if (!endpoint.settable) {
      return Error(Errc::not_permitted, fmt::format("\"{}\" can only be read", endpoint.name));
    }
    if (options_.level == Level::status) {
      return Error(Errc::not_supported,
                   "commands to this mount are off: it was mounted with -o control=status");
    }
    return carry_out(topic, text, caller, interface, socket);
  }();
  std::lock_guard lock(mutex_);
  // Read with cat(1), too, and what the command named may be in it.
  messages_[caller.uid] = result ? std::string() : printable(result.error().message());
  return result;
}

Result<void> Control::carry_out(Topic topic, std::string_view text, const CallingProcess& caller,
                                Interface interface, int socket) {
  switch (topic) {
    case Topic::replace: {
      // The command may name a path on this mount, and waits until that request is served.
      announce_blocking();
      TRY(auto command, replace::parse_command(text));
      return replace(std::move(command), caller, interface, socket);
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

Result<void> Control::replace(replace::Command command, const CallingProcess& caller,
                              Interface interface, int socket) {
  using Verb = replace::Command::Verb;
  // Whoever copies files does not mean to give up redundancy.
  if (interface == Interface::name && command.verb == Verb::offline) {
    return Error(Errc::not_permitted,
                 "offline is only accepted from the command line: moltfs device offline");
  }
  const bool names_device = command.verb == Verb::start || command.verb == Verb::online;
  if (!names_device || options_.broker == nullptr) {
    TRY(replace::execute(mount_.replace(), command));
    return ok();
  }
  if (interface == Interface::name && (command.start.force || command.online.force)) {
    return Error(Errc::not_permitted,
                 "--force is only accepted from the command line: moltfs replace start --force");
  }
  if (command.verb == Verb::online) {
    // The daemon itself can open what bears the uuid of its volume.
    TargetOpener opener(mount_.volume().opener(), *options_.broker, caller, socket);
    if (interface == Interface::ioctl && socket >= 0) command.online.opener = &opener;
    TRY(replace::execute(mount_.replace(), command));
    return ok();
  }
  if (interface == Interface::ioctl && socket < 0) {
    return Error(Errc::bad_command, "the call brings no target");
  }
  TargetOpener opener(mount_.volume().opener(), *options_.broker, caller,
                      interface == Interface::ioctl ? socket : -1);
  command.start.opener = &opener;
  TRY(replace::execute(mount_.replace(), command));
  return ok();
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

Json usage_of_devices(const alloc::SpaceBreakdown& space, const alloc::Volume& volume) {
  const std::vector<alloc::DeviceEntry> entries = volume.devices();
  Json devices = Json::list();
  for (const alloc::DeviceSpaceUsage& one : space.devices) {
    const auto entry = std::find_if(entries.begin(), entries.end(),
                                    [&](const auto& e) { return e.devid == one.devid; });
    if (entry == entries.end()) continue;
    devices.append(Json::object({{"devid", one.devid.value},
                                 {"path", entry->path},
                                 {"state", entry->out ? "out" : "in"},
                                 {"size_bytes", entry->size_bytes},
                                 {"usable_bytes", one.usable_bytes},
                                 {"data_chunk_bytes", one.data_bytes},
                                 {"data_used_bytes", one.data_used},
                                 {"metadata_chunk_bytes", one.metadata_bytes},
                                 {"metadata_used_bytes", one.metadata_used},
                                 {"unallocated_bytes", one.unallocated_bytes},
                                 {"useless_bytes", one.useless_bytes}}));
  }
  return devices;
}

Json usage_of_profiles(const alloc::SpaceBreakdown& space) {
  Json profiles = Json::list();
  for (const alloc::ProfileSpaceUsage& one : space.profiles) {
    profiles.append(Json::object({{"kind", alloc::name_of(one.kind)},
                                  {"profile", alloc::name_of(one.profile)},
                                  {"copies", uint64_t{alloc::copies_of(one.profile)}},
                                  {"chunk_bytes", one.chunk_bytes},
                                  {"used_bytes", one.used_bytes},
                                  {"device_bytes", one.device_bytes},
                                  {"fits_bytes", one.fits_bytes}}));
  }
  return profiles;
}

std::string usage_json(Mount& mount) {
  const alloc::SpaceUsage usage = mount.volume().space().usage();
  const alloc::Superblock super = mount.volume().superblock();
  const alloc::SpaceBreakdown breakdown = alloc::space_breakdown(mount.volume());
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
      {"devices", usage_of_devices(breakdown, mount.volume())},
      {"profiles", usage_of_profiles(breakdown)},
      {"cache_bytes", mount.options().cache_bytes},
      {"cache_limit_bytes", mount.transactions().cache_bytes()},
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
    one.add("state", entry.out ? "out" : "in");
    if (entry.out) one.add("whole_until_generation", entry.out->whole_until.value);
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
