// SPDX-License-Identifier: MIT
// Mount options: each word has its effect, goes to the kernel, is ignored or is refused.
#include "fs/daemon/options.h"

#include <fstream>
#include <iterator>
#include <sstream>

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::daemon;

namespace {

MountRequest parsed(std::string_view text) {
  MountRequest request;
  const auto result = parse_mount_options(text, request);
  INFO(text);
  REQUIRE(result.has_value());
  return request;
}

std::string refusal(std::string_view text) {
  MountRequest request;
  const auto result = parse_mount_options(text, request);
  INFO(text);
  REQUIRE(!result.has_value());
  return result.error().message();
}

bool contains_word(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

}  // namespace

TEST_CASE("options of moltfs are stored in the request") {
  const MountRequest r = parsed(
      "cache=64M,commit=30,threads=4,readahead=2M,idlepoll=off,device=/dev/sdb,device=/dev/"
      "sdc,abandon-replace,"
      "foreground,noatime,reread=40");
  CHECK(r.mount.cache_bytes == 64u << 20);
  CHECK(r.mount.commit_interval == std::chrono::seconds(30));
  CHECK(r.threads == 4);
  CHECK_FALSE(r.idle_polling);
  CHECK(r.readahead_bytes == 2u << 20);
  CHECK(r.mount.device_hints == std::vector<std::string>{"/dev/sdb", "/dev/sdc"});
  CHECK(r.mount.abandon_swap);
  CHECK(r.mount.replace.retry_pauses == std::vector<Nanoseconds>{std::chrono::seconds(2),
                                                                 std::chrono::seconds(10),
                                                                 std::chrono::seconds(28)});
  CHECK(r.foreground);
  CHECK(r.mount.policy.atime == Policy::Atime::never);
}

TEST_CASE("defaults apply where no option is given") {
  const MountRequest r = parsed("");
  CHECK(r.mount.cache_bytes == 256u << 20);
  CHECK(r.mount.commit_interval == std::chrono::seconds(5));
  CHECK(parsed("reread=20").mount.replace.retry_pauses == r.mount.replace.retry_pauses);
  CHECK_FALSE(r.mount.read_only);
  CHECK(r.kernel_options.empty());
  CHECK_FALSE(r.nofail);
  CHECK(parsed("nofail").nofail);
}

TEST_CASE("a later option wins over an earlier one") {
  CHECK(parsed("ro").mount.read_only);
  CHECK_FALSE(parsed("ro,rw").mount.read_only);
  CHECK(kernel_option_list(parsed("ro,rw"), true).find("ro,") == std::string::npos);
  CHECK(parsed("rw,ro").mount.read_only);
  CHECK(parsed("noatime,strictatime").mount.policy.atime == Policy::Atime::strict);
}

TEST_CASE("policy options are kept as words, and the kernel gets those that it knows") {
  CHECK(parsed("ro").policy_words.empty());
  CHECK(parsed("relatime,lazytime,acl,user_xattr,ro,dirsync").policy_words ==
        std::vector<std::string>{"relatime", "dirsync"});
  CHECK(parsed("dirsync").mount.policy.sync_names);
  CHECK(contains_word(kernel_option_list(parsed("dirsync"), true), "dirsync"));
  CHECK(contains_word(kernel_option_list(parsed("sync"), true), "sync"));
  CHECK_FALSE(contains_word(kernel_option_list(parsed("sync,async"), true), "sync"));
  CHECK_FALSE(contains_word(kernel_option_list(parsed("nodiratime"), true), "nodiratime"));
  CHECK(contains_word(kernel_option_list(parsed("noatime"), true), "noatime"));
  CHECK_FALSE(contains_word(kernel_option_list(parsed("noatime,relatime"), true), "noatime"));
}

TEST_CASE("options of the volume are told apart from those of one mount") {
  const auto r = parsed("cache=64M,nosuid,commit=7,noatime,fsname=x,idlepoll=off,x-y");
  CHECK(r.volume_words == std::vector<std::string>{"cache=64M", "commit=7", "idlepoll=off"});
}

TEST_CASE("commas and backslashes in values are escaped") {
  CHECK(parsed("device=/a\\,b\\\\c,ro").mount.device_hints == std::vector<std::string>{"/a,b\\c"});
  MountRequest r;
  r.devices = {"/img,1"};
  CHECK(contains_word(kernel_option_list(r, false), "fsname=/img\\,1"));
}

TEST_CASE("options for fstab are ignored; an unknown option or a bad value is refused by name") {
  parsed(
      "defaults,noauto,user,_netdev,nofail,x-systemd.automount,comment=hello,relatime,user_id=0");
  CHECK(refusal("frobnicate").find("\"frobnicate\"") != std::string::npos);
  CHECK(refusal("ro,cache=lots").find("\"cache=lots\"") != std::string::npos);
  for (const char* bad :
       {"cache", "cache=1", "commit=0", "commit=x", "commit=-1", "threads=1", "threads=1000",
        "idlepoll=", "idlepoll=1", "device=", "commit=3s", "cache=99999999999999999999"}) {
    refusal(bad);
  }
}

TEST_CASE("the kernel gets its options, and defaults that depend on the user") {
  MountRequest r = parsed("nosuid,noexec");
  r.devices = {"/dev/loop5"};
  const std::string as_root = kernel_option_list(r, true);
  for (const char* word : {"default_permissions", "subtype=moltfs", "fsname=/dev/loop5",
                           "allow_other", "nosuid", "noexec", "dev"}) {
    INFO(as_root << " " << word);
    CHECK(contains_word(as_root, word));
  }
  CHECK_FALSE(contains_word(as_root, "suid"));
  const std::string as_user = kernel_option_list(r, false);
  CHECK_FALSE(contains_word(as_user, "allow_other"));
  CHECK_FALSE(contains_word(as_user, "dev"));
}

TEST_CASE("the table in README.md is the table of options") {
  std::ifstream file(MOLTFS_SOURCE_DIR "/fs/daemon/README.md");
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  const std::string start = "<!-- moltfs mount --list-options -->\n", end = "<!-- end -->\n";
  const size_t from = page.find(start), to = page.find(end);
  REQUIRE(from != std::string::npos);
  REQUIRE(to != std::string::npos);
  CHECK(page.substr(from + start.size(), to - from - start.size()) == mount_options_table());
}

TEST_CASE("the help names each option of the table, in lines of less than 80 characters") {
  const std::string help = mount_options_help();
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    INFO(line);
    CHECK(line.size() < 80);
  }
  std::istringstream rows(mount_options_table());
  size_t count = 0;
  for (std::string line; std::getline(rows, line);) {
    if (!line.starts_with("| `")) continue;
    const std::string words = line.substr(0, line.find(" |"));
    for (size_t at = 0; (at = words.find('`', at)) != std::string::npos; ++count) {
      const size_t end = words.find('`', at + 1);
      std::string word = words.substr(at + 1, end - at - 1);
      std::erase(word, '\\');
      INFO(word);
      CHECK(help.find(word) != std::string::npos);
      at = end + 1;
    }
  }
  CHECK(count > 50);
}
