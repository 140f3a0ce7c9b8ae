// SPDX-License-Identifier: MIT
// The table of mount options, and what is made from it.
#include "fs/daemon/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "alloc/base/assert.h"
#include "alloc/base/size_text.h"
#include "fs/daemon/device_path.h"

namespace moltfs::fs::daemon {
namespace {

// ---- Values

Error bad_value(std::string_view word, std::string_view expected) {
  return Error(Errc::invalid_argument,
               fmt::format("mount option \"{}\": expected {}", word, expected));
}

Result<uint64_t> number_of(std::string_view word, std::string_view value, uint64_t min,
                           uint64_t max) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < min || number > max) {
    return bad_value(word, fmt::format("a number from {} to {}", min, max));
  }
  return number;
}

Result<uint64_t> size_of(std::string_view word, std::string_view value, uint64_t min,
                         uint64_t max) {
  const auto size = parse_size(value);
  if (!size || *size < min || *size > max) {
    return bad_value(word, fmt::format("a size from {} to {}", human_size(min), human_size(max)));
  }
  return *size;
}

// ---- Setters

/// One word of "-o", and what comes after its "=" or its prefix.
struct Given {
  std::string_view word, value;
};
using Setter = Result<void> (*)(const Given& given, MountRequest& request);

Result<void> ignore(const Given&, MountRequest&) {
  return ok();
}

Result<void> pass_to_kernel(const Given& given, MountRequest& request) {
  request.kernel_options.emplace_back(given.word);
  return ok();
}

Result<void> set_policy(const Given& given, MountRequest& request) {
  const bool is_policy = take_policy_word(given.word, request.mount.policy);
  ASSERT(is_policy);
  request.policy_words.emplace_back(given.word);
  return ok();
}

Result<void> record_in_utab(const Given& given, MountRequest& request) {
  request.utab_words.emplace_back(given.word);
  return ok();
}

Result<void> set_read_only(const Given& given, MountRequest& request) {
  request.mount.read_only = given.word == "ro";
  if (!request.mount.read_only) std::erase(request.kernel_options, "ro");
  return pass_to_kernel(given, request);
}

Result<void> set_cache(const Given& given, MountRequest& request) {
  TRY(request.mount.cache_bytes, size_of(given.word, given.value, 4 << 20, uint64_t{1} << 40));
  request.cache_is_given = true;
  return ok();
}

Result<void> set_commit(const Given& given, MountRequest& request) {
  TRY(const auto seconds, number_of(given.word, given.value, 1, 3600));
  request.mount.commit_interval = std::chrono::seconds(seconds);
  return ok();
}

Result<void> set_reread(const Given& given, MountRequest& request) {
  TRY(const auto seconds, number_of(given.word, given.value, 0, 3600));
  const Nanoseconds all = std::chrono::seconds(seconds);
  request.mount.replace.retry_pauses = {all / 20, all / 4, all - all / 20 - all / 4};
  return ok();
}

Result<void> add_device(const Given& given, MountRequest& request) {
  if (given.value.empty()) return bad_value(given.word, "device=PATH");
  request.mount.device_hints.push_back(absolute_path(std::string(given.value)));
  return ok();
}

Result<void> set_threads(const Given& given, MountRequest& request) {
  TRY(const auto threads, number_of(given.word, given.value, 2, 64));
  request.threads = static_cast<unsigned>(threads);
  return ok();
}

Result<void> set_readahead_size(const Given& given, MountRequest& request) {
  TRY(request.readahead_bytes, size_of(given.word, given.value, 0, 64 << 20));
  return ok();
}

template <bool MountRequest::*Member>
Result<void> set_switch(const Given& given, MountRequest& request) {
  if (given.value != "on" && given.value != "off") return bad_value(given.word, "on or off");
  request.*Member = given.value == "on";
  return ok();
}

Result<void> set_control(const Given& given, MountRequest& request) {
  using Level = Control::Level;
  if (given.value == "off") {
    request.control = Level::off;
  } else if (given.value == "status") {
    request.control = Level::status;
  } else if (given.value == "full") {
    request.control = Level::full;
  } else {
    return bad_value(given.word, "off, status or full");
  }
  return ok();
}

template <bool MountRequest::*Member>
Result<void> set_flag(const Given&, MountRequest& request) {
  request.*Member = true;
  return ok();
}

Result<void> set_abandon_replace(const Given&, MountRequest& request) {
  request.mount.abandon_swap = true;
  return ok();
}

Result<void> set_degraded(const Given&, MountRequest& request) {
  request.mount.degraded = true;
  return ok();
}

// ---- The table

enum class Kind : uint8_t {
  flag,   ///< the name alone
  value,  ///< NAME=VALUE
  prefix  ///< any word that begins with the name
};

struct Option {
  std::string_view name;
  Kind kind;
  Setter set;
  std::string_view value = {};  ///< what the help calls the value

  /// What comes after the name; nothing if `word` is not this option.
  std::optional<std::string_view> match(std::string_view word) const {
    if (!word.starts_with(name)) return std::nullopt;
    word.remove_prefix(name.size());
    if (kind == Kind::flag && !word.empty()) return std::nullopt;
    if (kind != Kind::value) return word;
    return word.starts_with('=') ? std::optional(word.substr(1)) : std::nullopt;
  }

  std::string spelling() const {
    if (kind == Kind::flag) return std::string(name);
    return fmt::format("{}{}{}", name, kind == Kind::value ? "=" : "", value);
  }
};

/// Options that share one explanation, which is in Markdown.
struct Row {
  std::vector<Option> options;
  std::string_view help;
};

const std::vector<Row>& rows() {
  using enum Kind;
  static const std::vector<Row> all = {
      {{{"ro", flag, set_read_only}, {"rw", flag, set_read_only}},
       "`ro`: nothing on the devices is changed. Default `rw`."},
      {{{"relatime", flag, set_policy},
        {"noatime", flag, set_policy},
        {"strictatime", flag, set_policy}},
       "When a read changes the access time: at most once after each change of the file and once "
       "a day; never; always. A read from the kernel's cache changes nothing. Default `relatime`."},
      {{{"diratime", flag, set_policy}, {"nodiratime", flag, set_policy}},
       "Whether listing a directory changes its access time. Default `diratime`."},
      {{{"dirsync", flag, set_policy}},
       "A change of names is durable when its system call returns."},
      {{{"sync", flag, set_policy}, {"async", flag, set_policy}},
       "`sync`: a change of names, attributes or content is durable when its system call returns. "
       "Default `async`."},
      {{{"cache", value, set_cache, "SIZE"}},
       "Memory for metadata, from 4M to 1T. Default: a quarter of the memory that the process may "
       "use "
       "(by its cgroups, for instance), at most 256M."},
      {{{"commit", value, set_commit, "SECONDS"}},
       "Time between commits, from 1 to 3600. Default 5."},
      {{{"reread", value, set_reread, "SECONDS"}},
       "For how long a replace reads unreadable blocks of the source again, in three passes, "
       "before it stops. From 0 to 3600. Default 20."},
      {{{"device", value, add_device, "PATH"}},
       "Where a device of the volume or the target of a replace is now. May be given more than "
       "once."},
      {{{"abandon-replace", flag, set_abandon_replace}},
       "Mount with the source although a replace was finishing and its target is lost."},
      {{{"degraded", flag, set_degraded}},
       "Go on without devices that are missing or cannot be used, if all chunks have a copy on "
       "others. What is written then is not on them."},
      {{{"threads", value, set_threads, "N"}},
       "Threads that wait for requests, from 2 to 64. Default: one for each CPU, at least 2 and at "
       "most 8."},
      {{{"readahead", value, set_readahead_size, "SIZE"}},
       "The kernel's read-ahead for this mount, up to 64M; 0 leaves the kernel's default. For root "
       "only. Default 1M."},
      {{{"idlepoll", value, set_switch<&MountRequest::idle_polling>, "on|off"}},
       "Under load (32 requests in 10 ms) keeps idle CPUs out of deep sleep. This lowers latency, "
       "costs power, and concerns the whole machine. For root only, on up to 16 CPUs. Default "
       "`on`."},
      {{{"control", value, set_control, "off|status|full"}},
       "Commands to the mounted volume. `off`: none; `.moltfs` and the attributes `user.moltfs.*` "
       "do not exist. `status`: reading only. Default `full`."},
      {{{"sandbox", value, set_switch<&MountRequest::sandbox>, "on|off"}},
       "Once it serves, the daemon gives up its capabilities and can open nothing any more "
       "(seccomp, Landlock). Default `on`."},
      {{{"foreground", flag, set_flag<&MountRequest::foreground>}},
       "Stay in the foreground; messages go to standard error."},
      {{{"remount", flag, set_flag<&MountRequest::remount>}},
       "Change options of a mounted volume: `ro`, `rw`, those for access times, `sync`, `async`, "
       "`dirsync` (on, not off), and `suid`, `dev`, `exec` with their opposites. A volume that was "
       "mounted `ro` cannot become writable."},
      {{{"suid", flag, pass_to_kernel},
        {"nosuid", flag, pass_to_kernel},
        {"dev", flag, pass_to_kernel},
        {"nodev", flag, pass_to_kernel},
        {"exec", flag, pass_to_kernel},
        {"noexec", flag, pass_to_kernel}},
       "As for any filesystem. Default: `exec`; for root `suid` and `dev`, for others `nosuid` and "
       "`nodev`."},
      {{{"allow_other", flag, pass_to_kernel}, {"allow_root", flag, pass_to_kernel}},
       "All users, or root, may use the mount besides the user who mounts. Root's default is "
       "`allow_other`; for others /etc/fuse.conf must have `user_allow_other`."},
      {{{"context", value, pass_to_kernel, "CONTEXT"},
        {"fscontext", value, pass_to_kernel, "CONTEXT"},
        {"defcontext", value, pass_to_kernel, "CONTEXT"},
        {"rootcontext", value, pass_to_kernel, "CONTEXT"}},
       "SELinux labels, as for any filesystem."},
      {{{"fsname", value, pass_to_kernel, "NAME"}},
       "The source shown in /proc/mounts. Default: the first device."},
      {{{"max_read", value, pass_to_kernel, "BYTES"}}, "Limit of a read request, for the kernel."},
      {{{"nofail", flag, set_flag<&MountRequest::nofail>}},
       "It is not an error if a device does not exist; then nothing is mounted."},
      {{{"_netdev", flag, record_in_utab},
        {"x-", prefix, record_in_utab, "..."},
        {"X-", prefix, record_in_utab, "..."}},
       "For mount(8), systemd and others. Root's mounts have them in /run/mount/utab."},
      {{{"acl", flag, ignore}, {"user_xattr", flag, ignore}, {"default_permissions", flag, ignore}},
       "Accepted for compatibility: they are always on."},
      {{{"defaults", flag, ignore},
        {"auto", flag, ignore},
        {"noauto", flag, ignore},
        {"user", flag, ignore},
        {"nouser", flag, ignore},
        {"users", flag, ignore},
        {"owner", flag, ignore},
        {"group", flag, ignore},
        {"comment", value, ignore, "..."}},
       "Accepted in an fstab line: mount(8) and systemd obey them."},
      {{{"atime", flag, ignore},
        {"norelatime", flag, ignore},
        {"nostrictatime", flag, ignore},
        {"lazytime", flag, ignore},
        {"nolazytime", flag, ignore},
        {"mand", flag, ignore},
        {"nomand", flag, ignore},
        {"iversion", flag, ignore},
        {"noiversion", flag, ignore},
        {"loud", flag, ignore},
        {"silent", flag, ignore}},
       "Accepted for compatibility: they have no effect."},
      // mount(8) adds these: helpers of its own, and for a remount what it finds in /proc/mounts.
      {{{"uhelper", value, ignore, "NAME"},
        {"helper", value, ignore, "NAME"},
        {"subtype", value, ignore, "NAME"},
        {"user_id", value, ignore, "N"},
        {"group_id", value, ignore, "N"}},
       "Accepted because mount(8) passes them."},
  };
  return all;
}

/// Options that are those of the volume and not of one mount of it, beside those in fs/policy.h.
bool concerns_volume(const Option& option) {
  constexpr std::string_view kNames[] = {"cache",    "commit",          "threads",    "readahead",
                                         "idlepoll", "abandon-replace", "degraded",   "allow_root",
                                         "context",  "fscontext",       "defcontext", "rootcontext",
                                         "max_read"};
  return std::find(std::begin(kNames), std::end(kNames), option.name) != std::end(kNames);
}

Result<void> take_word(const std::string& word, MountRequest& request) {
  if (word.empty()) return ok();
  for (const Row& row : rows()) {
    for (const Option& option : row.options) {
      const auto value = option.match(word);
      if (!value) continue;
      if (concerns_volume(option)) request.volume_words.push_back(word);
      return option.set({word, *value}, request);
    }
  }
  return Error(Errc::invalid_argument, fmt::format("unknown mount option \"{}\"", word));
}

// ---- Texts

constexpr size_t kHelpColumn = 24, kLineEnd = 80;

/// `words` with blanks between them, broken into lines of less than kLineEnd - `indent` characters.
std::vector<std::string> wrap(std::string_view words, size_t indent) {
  std::vector<std::string> lines(1);
  while (!words.empty()) {
    const std::string_view word = words.substr(0, words.find(' '));
    words.remove_prefix(std::min(words.size(), word.size() + 1));
    std::string& last = lines.back();
    if (!last.empty() && indent + last.size() + 1 + word.size() >= kLineEnd) {
      lines.emplace_back(word);
    } else {
      last += last.empty() ? "" : " ";
      last += word;
    }
  }
  return lines;
}

/// `word` as an element of a list that is separated by commas.
std::string escape_commas(std::string_view word) {
  std::string out;
  for (const char c : word) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string mount_options_help() {
  std::string text;
  for (const Row& row : rows()) {
    std::string words;
    for (const Option& option : row.options) {
      words += (words.empty() ? "" : ", ") + option.spelling();
    }
    std::string help(row.help);
    std::erase(help, '`');
    const auto left = wrap(words, 2), right = wrap(help, kHelpColumn);
    // Short words share a line with the beginning of their explanation.
    const bool shares = left.size() == 1 && left[0].size() + 4 <= kHelpColumn;
    for (size_t i = 0; i + (shares ? 1 : 0) < left.size(); ++i) text += "  " + left[i] + "\n";
    for (size_t i = 0; i < right.size(); ++i) {
      const std::string start = shares && i == 0 ? "  " + left[0] : std::string();
      text += fmt::format("{:<{}}{}\n", start, kHelpColumn, right[i]);
    }
  }
  return text;
}

std::string mount_options_table() {
  std::string table = "| mount option | what it does |\n| --- | --- |\n";
  for (const Row& row : rows()) {
    std::string words;
    for (const Option& option : row.options) {
      words += fmt::format("{}`{}`", words.empty() ? "" : ", ", option.spelling());
    }
    for (size_t at = 0; (at = words.find('|', at)) != std::string::npos; at += 2) {
      words.insert(at, 1, '\\');
    }
    table += fmt::format("| {} | {} |\n", words, row.help);
  }
  return table;
}

Result<void> parse_mount_options(std::string_view text, MountRequest& request) {
  std::string word;
  for (size_t i = 0; i <= text.size(); ++i) {
    if (i == text.size() || text[i] == ',') {
      TRY(take_word(word, request));
      word.clear();
    } else {
      if (text[i] == '\\' && i + 1 < text.size()) ++i;
      word += text[i];
    }
  }
  return ok();
}

std::string kernel_option_list(const MountRequest& request, bool is_root) {
  const auto given = [&](std::string_view word) {
    const auto& words = request.kernel_options;
    return std::find(words.begin(), words.end(), word) != words.end();
  };
  std::vector<std::string> words = {"default_permissions", "subtype=moltfs"};
  const bool has_name =
      std::any_of(request.kernel_options.begin(), request.kernel_options.end(),
                  [](const std::string& word) { return word.starts_with("fsname="); });
  if (!has_name && !request.devices.empty()) words.push_back("fsname=" + request.devices.front());
  if (is_root) {
    if (!given("allow_other") && !given("allow_root")) words.emplace_back("allow_other");
    if (!given("nosuid")) words.emplace_back("suid");
    if (!given("nodev")) words.emplace_back("dev");
  }
  const Policy& policy = request.mount.policy;
  if (policy.atime == Policy::Atime::never) words.emplace_back("noatime");
  if (policy.sync_names) words.emplace_back("dirsync");
  if (policy.sync_all) words.emplace_back("sync");  // the kernel calls fsync after each write
  words.insert(words.end(), request.kernel_options.begin(), request.kernel_options.end());
  std::string list;
  for (const std::string& word : words) {
    if (!list.empty()) list += ',';
    list += escape_commas(word);
  }
  return list;
}

}  // namespace moltfs::fs::daemon
