// SPDX-License-Identifier: MIT
// Texts that a user, the kernel or a program gives: mount options, /proc files, tags, sizes, JSON.
#include <fmt/format.h>

#include "alloc/base/json.h"
#include "alloc/base/size_text.h"
#include "alloc/base/utf8.h"
#include "alloc/base/uuid.h"
#include "alloc/device/memory_limit.h"
#include "alloc/device/mountinfo.h"
#include "alloc/device/storage.h"
#include "fs/daemon/caller_rights.h"
#include "fs/daemon/find_device.h"
#include "fs/daemon/options.h"
#include "fs/daemon/utab.h"
#include "fs/policy.h"
#include "test/fuzz/targets.h"

namespace moltfs::fuzz {
namespace {

using namespace moltfs::fs;

void require(bool condition, const char* what, std::string_view text) {
  if (!condition) fail(fmt::format("{}: {}", what, printable(text)));
}

/// Up to `count` of `words`, some with other bytes in between.
template <size_t size>
std::string text_of(Choices& choices, const std::string_view (&words)[size], uint64_t count,
                    std::string_view separators) {
  std::string text;
  for (uint64_t i = choices.below(count + 1); i > 0; --i) {
    text += choices.of(words);
    text += choices.of(separators);
    if (choices.one_in(12)) text += static_cast<char>(choices.any());
    if (choices.one_in(12)) text += std::to_string(choices.number(64, 7));
    if (choices.one_in(200)) text.append(choices.below(20'000), 'z');
  }
  if (!text.empty() && choices.one_in(2)) text.pop_back();
  if (!text.empty() && choices.one_in(8)) choices.of(text) = static_cast<char>(choices.any());
  return text;
}

std::string any_bytes(Choices& choices) {
  static constexpr std::string_view kPieces[] = {"\x1b[2J",
                                                 "\xc2\x9b",
                                                 "\u202e",
                                                 "\u2066",
                                                 "\u200b",
                                                 "\u2028",
                                                 "\ufeff",
                                                 "\U000e0041",
                                                 "\xe2\x82\xac",
                                                 "\xf0\x9f\x98\x80",
                                                 "\xed\xa0\x80",
                                                 "\xc0\xaf",
                                                 "\xff",
                                                 "\n",
                                                 "\r",
                                                 "\x7f",
                                                 "\"",
                                                 "\\",
                                                 "a",
                                                 "/"};
  return text_of(choices, kPieces, 8, std::string_view("\0 \x01x", 4));
}

void mounts(Choices& choices) {
  static constexpr std::string_view kWords[] = {
      "36",         "35",          "98:0",          "0:44",       "/",        "/mnt",
      "/mnt\\040a", "\\134",       "\\0",           "\\999",      "-",        "cgroup",
      "cgroup2",    "fuse.moltfs", "memory",        "rw,noatime", "shared:1", "4294967296:1",
      "::",         "-1",          "/sys/fs/cgroup"};
  std::string table;
  for (uint64_t lines = choices.below(4); lines > 0; --lines) {
    if (choices.one_in(2)) {
      table += fmt::format("{} 35 98:0 {} {} rw shared:1 - {} {} rw,memory\n",
                           choices.number(32, 36), choices.of(kWords), choices.of(kWords),
                           choices.of(kWords), choices.of(kWords));
    } else {
      table += text_of(choices, kWords, 12, "    \n") + "\n";
    }
  }
  const auto entries = alloc::parse_mountinfo(table);
  if (!entries.empty()) ++accepted_inputs;
  for (const alloc::MountinfoEntry& entry : entries) {
    (void)alloc::device_number_of(entry.device_number);
    (void)alloc::mount_of_path(entries, entry.mountpoint);
    (void)alloc::mount_of_id(entries, choices.number(64, 36));
  }
  const std::string path = text_of(choices, kWords, 3, "//.");
  require(alloc::unescape_mount_path(path).size() <= path.size(), "an escape makes it longer",
          path);
  (void)alloc::mount_of_path(entries, path);
  (void)daemon::utab_names(table, path);

  static constexpr std::string_view kCgroups[] = {"0::",  "4:memory:", ":",  "/a/b",  "/../..",
                                                  "//x/", "0",         "\n", "memory"};
  const std::string cgroups = text_of(choices, kCgroups, 8, "\n\n:/");
  (void)alloc::cgroup_memory_limit(cgroups, entries,
                                   [&](const std::string&) -> std::optional<uint64_t> {
                                     if (choices.one_in(3)) return std::nullopt;
                                     return choices.any();
                                   });
}

void mount_options(Choices& choices) {
  static constexpr std::string_view kWords[] = {"ro",
                                                "rw",
                                                "cache=",
                                                "cache=64M",
                                                "device=/dev/sdb",
                                                "device=",
                                                "control=",
                                                "status",
                                                "full",
                                                "noatime",
                                                "sync",
                                                "threads=",
                                                "commit=",
                                                "readahead",
                                                "=",
                                                "\\,",
                                                "\\",
                                                "sandbox",
                                                "uid=0",
                                                "x-systemd",
                                                "user",
                                                "allow_other",
                                                "remount",
                                                "nofail",
                                                "fsname=a,b",
                                                "subtype=x",
                                                "idlepoll=on",
                                                "abandon-replace",
                                                "default_permissions"};
  const std::string text = text_of(choices, kWords, 6, ",,,=");
  daemon::MountRequest request;
  if (!daemon::parse_mount_options(text, request)) return;
  ++accepted_inputs;
  (void)daemon::kernel_option_list(request, choices.one_in(2));
  Policy policy;
  (void)take_policy_word(text, policy);
  const std::string words = to_words(policy);
  daemon::MountRequest other;
  require(daemon::parse_mount_options(words, other).has_value(), "a policy is refused", words);
}

void process_status(Choices& choices) {
  static constexpr std::string_view kWords[] = {
      "Uid:",     "Gid:", "Groups:",    "NSpid:", "CapEff:",
      "0",        "1000", "4294967296", "-1",     "\t",
      "000001ff", "\n",   "Name:",      ":",      "ffffffffffffffff"};
  const auto fields = daemon::parse_status(text_of(choices, kWords, 20, "\t\n :"));
  if (!fields.uids.empty()) ++accepted_inputs;
}

void small_words(Choices& choices) {
  static constexpr std::string_view kWords[] = {
      "64",     "M",      "KiB", "1.5", "T", "18446744073709551615",
      "file:",  "block:", ":",   "8:1", "-", "550e8400-e29b-41d4-a716-446655440000",
      "LABEL=", "UUID=",  "e29b"};
  const std::string text = text_of(choices, kWords, 3, " :-0");
  (void)parse_size(text);
  (void)human_size(choices.number(64, 0));
  (void)daemon::is_tag(text);
  (void)daemon::link_name(text);
  if (const auto uuid = Uuid::parse(text)) {
    ++accepted_inputs;
    require(Uuid::parse(uuid->to_string()) == uuid, "a uuid does not read back", text);
  }
  if (const auto id = alloc::parse_storage_id(text)) {
    require(alloc::parse_storage_id(alloc::to_text(*id)) == id, "an id does not read back", text);
  }
}

void json(Choices& choices) {
  static constexpr std::string_view kWords[] = {"{",
                                                "}",
                                                "[",
                                                "]",
                                                ",",
                                                ":",
                                                "\"a\"",
                                                "\"\\u0000\"",
                                                "\"\\ud800\"",
                                                "null",
                                                "true",
                                                "false",
                                                "1e9999",
                                                "-0",
                                                "0.1",
                                                "\"",
                                                "\\",
                                                "18446744073709551616",
                                                "[[[[[[[[[[[[[[[[[",
                                                "{\"a\":",
                                                "\"\xff\""};
  const std::string text = text_of(choices, kWords, 14, " \n,\t");
  const auto value = Json::parse(text);
  if (!value) return;
  ++accepted_inputs;
  for (const std::string& written : {value->compact(), value->pretty(2)}) {
    require(Json::parse(written).has_value(), "JSON that was written does not read back", written);
  }
}

bool is_utf8(std::string_view text) {
  while (!text.empty() && utf8_length(text) > 0) text.remove_prefix(utf8_length(text));
  return text.empty();
}

/// What reaches a terminal or a JSON text, whatever the bytes are.
void output(Choices& choices) {
  const std::string bytes = any_bytes(choices);
  const std::string shown = printable(bytes);
  for (std::string_view rest = shown; !rest.empty();) {
    const size_t length = utf8_length(rest);
    require(length > 0 && !is_invisible(code_point(rest.substr(0, length))), "a terminal obeys",
            shown);
    rest.remove_prefix(length);
  }
  const Json value = Json::object({{bytes, Json(bytes)}, {"list", Json::list({Json(bytes)})}});
  const std::string written = value.compact();
  require(Json::parse(written).has_value(), "JSON is not valid", written);
  require(printable(written) == written, "a terminal obeys JSON", written);
  if (is_utf8(bytes)) {
    require(Json::parse(Json::object({{"a", Json(bytes)}}).compact())->text("a") == bytes,
            "JSON loses characters", written);
  }
  const std::string link = daemon::link_name(std::string(bytes.c_str()));
  require(link.find_first_of(" /\n\r\"") == std::string::npos && printable(link) == link,
          "a link's name is not safe", link);
  ++accepted_inputs;
}

}  // namespace

void fuzz_text(Choices& choices) {
  using Part = void (*)(Choices&);
  static constexpr Part kParts[] = {mounts,      mount_options, process_status,
                                    small_words, json,          output};
  kParts[choices.below(std::size(kParts))](choices);
}

}  // namespace moltfs::fuzz
