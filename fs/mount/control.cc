// SPDX-License-Identifier: MIT
// Control: the doors, who may use them, and what is behind them.
#include "fs/mount/control.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "alloc/base/blocking.h"
#include "alloc/disk/superblock.h"
#include "replace/command.h"

namespace moltfs::fs {

const std::vector<Control::Door>& Control::doors() {
  static const std::vector<Door> doors = {
      {Topic::replace, "replace", false, true}, {Topic::message, "message", false, false},
      {Topic::usage, "usage", true, false},     {Topic::devices, "devices", true, false},
      {Topic::label, "label", true, true},      {Topic::sync, "sync", false, true},
      {Topic::pid, "pid", true, false},         {Topic::options, "options", true, true},
  };
  return doors;
}

const Control::Door* Control::find(std::string_view name) {
  const auto& all = doors();
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const Door& d) { return d.name == name; });
  return found == all.end() ? nullptr : &*found;
}

Result<std::string> Control::get(Topic topic, uint32_t uid) {
  const Door& door = doors()[static_cast<size_t>(topic)];
  if (!door.readable_by_all && !may_command(uid)) return Errc::not_permitted;
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
  }
  return Errc::no_attribute;
}

Result<void> Control::set(Topic topic, std::string_view text, uint32_t uid) {
  const Door& door = doors()[static_cast<size_t>(topic)];
  if (!may_command(uid) || !door.settable) return Errc::not_permitted;
  auto result = carry_out(topic, text);
  std::lock_guard lock(mutex_);
  messages_[uid] = result ? std::string() : result.error().message();
  return result;
}

Result<void> Control::carry_out(Topic topic, std::string_view text) {
  switch (topic) {
    case Topic::replace: {
      // It looks at paths, of this very mount even: then somebody must serve it.
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
  if (text.size() > alloc::kMaxLabelBytes) {
    return Error(Errc::invalid_argument,
                 fmt::format("a label has at most {} bytes, this one has {}", alloc::kMaxLabelBytes,
                             text.size()));
  }
  const auto is_control_byte = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (std::any_of(text.begin(), text.end(), is_control_byte)) {
    return Error(Errc::invalid_argument, "a label holds no control characters");
  }
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
                   fmt::format("\"{}\" is no option that a mount can change", word));
    }
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  mount_.filesystem().set_policy(policy);
  return ok();
}

std::string json_quote(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\u{:04x}", byte);
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::string usage_json(Mount& mount) {
  const alloc::SpaceUsage usage = mount.volume().space().usage();
  const alloc::Superblock super = mount.volume().superblock();
  const auto statistics = mount.filesystem().statistics();
  const Statistics files = statistics ? statistics.value() : Statistics{};
  const auto fatal = mount.transactions().fatal();
  return fmt::format(
      "{{\"volume\":\"{}\",\"label\":{},\"generation\":{},\"read_only\":{},\"read_only_reason\":{},"
      "\"total_bytes\":{},\"free_bytes\":{},\"available_bytes\":{},\"inodes\":{},"
      "\"device_bytes\":{},\"unallocated_bytes\":{},"
      "\"data_profile\":\"{}\",\"data_chunk_bytes\":{},\"data_used_bytes\":{},"
      "\"metadata_profile\":\"{}\",\"metadata_chunk_bytes\":{},\"metadata_used_bytes\":{},"
      "\"pinned_bytes\":{}}}\n",
      super.volume.to_string(), json_quote(super.label), mount.transactions().durable().value,
      mount.volume().read_only() || fatal.has_value(), fatal ? json_quote(*fatal) : "null",
      files.total_bytes, files.free_bytes, files.available_bytes,
      files.inode_count - files.free_inode_count, usage.device_bytes, usage.unallocated_bytes,
      alloc::name_of(super.data_profile), usage.data_chunk_bytes, usage.data_used_bytes,
      alloc::name_of(super.metadata_profile), usage.metadata_chunk_bytes, usage.metadata_used_bytes,
      usage.pinned_bytes);
}

std::string devices_json(Mount& mount) {
  std::string list;
  for (const alloc::DeviceEntry& entry : mount.volume().devices()) {
    if (!list.empty()) list += ',';
    list += fmt::format("{{\"devid\":{},\"uuid\":\"{}\",\"path\":{},\"size_bytes\":{}",
                        entry.devid.value, entry.uuid.to_string(), json_quote(entry.path),
                        entry.size_bytes);
    if (const auto device = mount.volume().device(entry.devid)) {
      const alloc::DeviceCounters& counters = device->counters();
      list += fmt::format(
          ",\"read_bytes\":{},\"written_bytes\":{},\"read_errors\":{},\"write_errors\":{},"
          "\"flush_errors\":{},\"checksum_errors\":{}",
          counters.read_bytes.load(), counters.written_bytes.load(), counters.read_errors.load(),
          counters.write_errors.load(), counters.flush_errors.load(),
          counters.checksum_errors.load());
    }
    list += '}';
  }
  const alloc::Superblock super = mount.volume().superblock();
  return fmt::format("{{\"volume\":\"{}\",\"label\":{},\"devices\":[{}]}}\n",
                     super.volume.to_string(), json_quote(super.label), list);
}

std::string process_identity() {
  // Field 22 of /proc/self/stat; the command name (field 2) may hold blanks and parentheses.
  std::ifstream file("/proc/self/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::string word;
  for (int field = 3; field <= 22; ++field) fields >> word;
  return fmt::format("{} {}", getpid(), word);
}

}  // namespace moltfs::fs
