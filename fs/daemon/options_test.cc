// SPDX-License-Identifier: MIT
// Mount options: what is ours, what goes to the kernel, what is skipped, what is refused.
#include "fs/daemon/options.h"

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

TEST_CASE("our options") {
  const MountRequest r = parsed(
      "cache=64M,commit=30,threads=4,readahead=2M,idlepoll=off,device=/dev/sdb,device=/dev/"
      "sdc,abandon-replace,"
      "foreground,noatime");
  CHECK(r.mount.cache_bytes == 64u << 20);
  CHECK(r.mount.commit_interval == std::chrono::seconds(30));
  CHECK(r.threads == 4);
  CHECK_FALSE(r.idle_polling);
  CHECK(r.readahead_bytes == 2u << 20);
  CHECK(r.mount.device_hints == std::vector<std::string>{"/dev/sdb", "/dev/sdc"});
  CHECK(r.mount.abandon_swap);
  CHECK(r.foreground);
  CHECK(r.mount.policy.atime == Policy::Atime::never);
}

TEST_CASE("defaults") {
  const MountRequest r = parsed("");
  CHECK(r.mount.cache_bytes == 256u << 20);
  CHECK(r.mount.commit_interval == std::chrono::seconds(5));
  CHECK_FALSE(r.mount.read_only);
  CHECK(r.kernel_options.empty());
  CHECK_FALSE(r.nofail);
  CHECK(parsed("nofail").nofail);
}

TEST_CASE("the last word on read-only and atime counts") {
  CHECK(parsed("ro").mount.read_only);
  CHECK_FALSE(parsed("ro,rw").mount.read_only);
  CHECK(kernel_option_list(parsed("ro,rw"), true).find("ro,") == std::string::npos);
  CHECK(parsed("rw,ro").mount.read_only);
  CHECK(parsed("noatime,strictatime").mount.policy.atime == Policy::Atime::strict);
}

TEST_CASE("what the daemon obeys itself") {
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

TEST_CASE("tags are no paths") {
  CHECK(absolute_path("LABEL=home") == "LABEL=home");
  CHECK(absolute_path("UUID=x/../y") == "UUID=x/../y");
  CHECK(absolute_path("LABELS") != "LABELS");
}

TEST_CASE("commas and backslashes in values") {
  CHECK(parsed("device=/a\\,b\\\\c,ro").mount.device_hints == std::vector<std::string>{"/a,b\\c"});
  MountRequest r;
  r.devices = {"/img,1"};
  CHECK(contains_word(kernel_option_list(r, false), "fsname=/img\\,1"));
}

TEST_CASE("words of fstab are skipped, unknown ones and bad values refused by name") {
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

TEST_CASE("what the kernel gets") {
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
