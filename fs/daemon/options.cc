// SPDX-License-Identifier: MIT
// Mount options: the table of ours, the words left to the kernel, the words to skip.
#include "fs/daemon/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>

#include "alloc/base/size_text.h"
#include "fs/daemon/find_device.h"

namespace moltfs::fs::daemon {
namespace {

constexpr std::string_view kKernelWords[] = {
    "rw",          "suid",       "nosuid", "dev", "nodev", "exec", "noexec", "default_permissions",
    "allow_other", "allow_root",
};
constexpr std::string_view kKernelPrefixes[] = {
    "context=", "fscontext=", "defcontext=", "rootcontext=", "fsname=", "max_read="};
constexpr std::string_view kSkippedWords[] = {
    "defaults",   "auto",          "noauto",   "user",       "nouser", "users",
    "owner",      "group",         "_netdev",  "loud",       "silent", "atime",
    "norelatime", "nostrictatime", "lazytime", "nolazytime", "mand",   "nomand",
    "iversion",   "noiversion",    "acl",      "user_xattr"};
// The last two stand in /proc/mounts, from where mount(8) takes them for "-o remount".
constexpr std::string_view kSkippedPrefixes[] = {
    "x-", "X-", "comment=", "uhelper=", "helper=", "subtype=", "user_id=", "group_id="};

template <class Words>
bool contains(const Words& words, std::string_view word) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

template <class Prefixes>
bool has_prefix(const Prefixes& prefixes, std::string_view word) {
  return std::any_of(std::begin(prefixes), std::end(prefixes),
                     [&](std::string_view prefix) { return word.starts_with(prefix); });
}

Error bad_value(std::string_view word, std::string_view expected) {
  return Error(Errc::invalid_argument,
               fmt::format("mount option \"{}\": expected {}", word, expected));
}

Result<uint64_t> number_of(std::string_view word, std::string_view value, uint64_t least,
                           uint64_t most) {
  uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < least ||
      number > most) {
    return bad_value(word, fmt::format("a number from {} to {}", least, most));
  }
  return number;
}

Result<uint64_t> size_of(std::string_view word, std::string_view value, uint64_t least,
                         uint64_t most) {
  const auto size = parse_size(value);
  if (!size || *size < least || *size > most) {
    return bad_value(word,
                     fmt::format("a size from {} to {}", human_size(least), human_size(most)));
  }
  return *size;
}

/// What we obey ourselves; false if `word` is none of that.
bool take_policy(std::string_view word, MountRequest& request) {
  if (!take_policy_word(word, request.mount.policy)) return false;
  request.policy_words.emplace_back(word);
  return true;
}

/// Options without a value; false if `word` is none of them.
bool take_flag(std::string_view word, MountRequest& request) {
  if (word == "ro") {
    request.mount.read_only = true;
    request.kernel_options.emplace_back(word);
  } else if (word == "foreground") {
    request.foreground = true;
  } else if (word == "abandon-replace") {
    request.mount.abandon_swap = true;
  } else if (word == "remount") {
    request.remount = true;
  } else if (word == "nofail") {
    request.nofail = true;
  } else {
    return take_policy(word, request);
  }
  return true;
}

/// Options with a value; nothing if `word` is none of them.
std::optional<Result<void>> take_value(std::string_view word, MountRequest& request) {
  const size_t equals = word.find('=');
  if (equals == std::string_view::npos) return std::nullopt;
  const std::string_view name = word.substr(0, equals), value = word.substr(equals + 1);
  const auto take = [&]() -> Result<void> {
    if (name == "cache") {
      TRY(request.mount.cache_bytes, size_of(word, value, 4 << 20, uint64_t{1} << 40));
    } else if (name == "commit") {
      TRY(const auto seconds, number_of(word, value, 1, 3600));
      request.mount.commit_interval = std::chrono::seconds(seconds);
    } else if (name == "threads") {
      TRY(const auto threads, number_of(word, value, 2, 64));
      request.threads = static_cast<unsigned>(threads);
    } else if (name == "readahead") {
      TRY(request.readahead_bytes, size_of(word, value, 0, 64 << 20));
    } else if (name == "idlepoll") {
      if (value != "on" && value != "off") return bad_value(word, "on or off");
      request.idle_polling = value == "on";
    } else if (name == "device") {
      if (value.empty()) return bad_value(word, "device=PATH");
      request.mount.device_hints.push_back(absolute_path(std::string(value)));
    } else {
      return Errc::no_attribute;
    }
    return ok();
  };
  auto result = take();
  if (!result && result.error() == Errc::no_attribute) return std::nullopt;
  return result;
}

Result<void> take_word(const std::string& word, MountRequest& request) {
  if (word == "_netdev" || word.starts_with("x-") || word.starts_with("X-")) {
    request.utab_words.push_back(word);
  }
  if (word.empty() || contains(kSkippedWords, word) || has_prefix(kSkippedPrefixes, word)) {
    return ok();
  }
  if (word == "rw") {
    request.mount.read_only = false;
    std::erase(request.kernel_options, "ro");
  }
  if (take_flag(word, request)) return ok();
  if (auto taken = take_value(word, request)) return *taken;
  if (contains(kKernelWords, word) || has_prefix(kKernelPrefixes, word)) {
    request.kernel_options.push_back(word);
    return ok();
  }
  return Error(Errc::invalid_argument, fmt::format("unknown mount option \"{}\"", word));
}

/// `word` for a list in which commas separate.
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
  return "  ro, rw                read-only, or not (default)\n"
         "  cache=SIZE            memory for metadata (default 256M)\n"
         "  commit=SECONDS        time between commits (default 5)\n"
         "  device=PATH           where a further device of the volume is, or the target of a\n"
         "                        replace that is to be resumed; may be given more than once\n"
         "  abandon-replace       go on with the source though the target of a replace that was\n"
         "                        finishing is lost\n"
         "  relatime, noatime, strictatime\n"
         "                        when reading a file changes its access time (default relatime)\n"
         "  nodiratime            reading a directory does not\n"
         "  dirsync, sync         changes of names (and of all else) are durable at once\n"
         "  threads=N             threads that wait for requests (default: one for each CPU)\n"
         "  readahead=SIZE        read-ahead of the mount (default 1M)\n"
         "  idlepoll=on|off       while requests are many, idle CPUs wait for work without "
         "halting\n"
         "                        (default on; up to 16 CPUs, as root)\n"
         "  foreground            stay in the foreground, messages on standard error\n"
         "  remount               change ro, rw, nosuid, nodev, noexec, the rule for access\n"
         "                        times, and turn on dirsync or sync\n"
         "  nosuid, nodev, noexec, allow_other, ... are the kernel's\n"
         "  nofail, user, users, noauto, _netdev, x-... are for mount(8) and systemd\n";
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
  const auto given = [&](std::string_view word) { return contains(request.kernel_options, word); };
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
  if (policy.sync_all) words.emplace_back("sync");  // the kernel follows each write with an fsync
  for (const std::string& word : request.kernel_options) {
    if (word != "default_permissions") words.push_back(word);
  }
  std::string list;
  for (const std::string& word : words) {
    if (!list.empty()) list += ',';
    list += escape_commas(word);
  }
  return list;
}

std::string absolute_path(const std::string& path) {
  if (is_tag(path)) return path;
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  return error ? path : absolute.lexically_normal().string();
}

}  // namespace moltfs::fs::daemon
