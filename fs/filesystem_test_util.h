// SPDX-License-Identifier: MIT
// For tests of the filesystem: one on a device in memory, without the replace engine and without a
// commit timer, so that what is durable is what the test synced.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/check/check.h"
#include "fs/mount/mount.h"
#include "fs/tree/tree_test_util.h"

namespace moltfs::fs::test {

class TestFilesystem : public TestTrees {
 public:
  struct Setup {
    uint64_t device_bytes = 256 * kMiB;
    Filesystem::Options options{};
    alloc::Profile data_profile = alloc::Profile::single;
    Transactions::Options trees{};
    bool removes_orphans = true;  ///< in the background, from the start
  };

  explicit TestFilesystem(const Setup& setup)
      : TestTrees(NotMade{}, setup.device_bytes, setup.trees), setup_(setup) {
    MkfsOptions mkfs;
    mkfs.volume.data_profile = setup.data_profile;
    must(make_filesystem(runtime, devices, {kPath}, mkfs));
    open();
  }
  explicit TestFilesystem(uint64_t device_bytes, const Filesystem::Options& with = {})
      : TestFilesystem(Setup{.device_bytes = device_bytes, .options = with}) {}
  TestFilesystem() : TestFilesystem(Setup{}) {}
  ~TestFilesystem() { close(); }

  Filesystem* operator->() { return filesystem.get(); }
  Filesystem& operator*() { return *filesystem; }

  void open(bool read_only = false) {
    Filesystem::Options options_now = setup_.options;
    options_now.read_only = read_only;
    must(try_open(read_only));
    filesystem = must(Filesystem::open(runtime, *transactions, options_now));
    if (!read_only && volume->found_log().begun) must(transactions->commit(true));
    if (setup_.removes_orphans) filesystem->start();
  }
  void close() {
    filesystem.reset();
    TestTrees::close();
  }
  /// Unmounts in order.
  void unmount() {
    filesystem->stop();
    commit();
    close();
  }
  void remount() {
    unmount();
    open();
  }
  /// What was not synced is lost.
  void crash() {
    close();
    open();
  }
  /// Waits until orphans that nobody holds are gone; the filesystem can be used no more but
  /// looked at.
  void drain() { filesystem->stop(); }

  /// Unmounts in order; REQUIRE that check finds nothing. Only destroy it afterwards.
  void unmount_and_check() {
    unmount();
    const CheckReport report = must(check(runtime, devices, {kPath}, {}));
    for (const Finding& finding : report.findings)
      UNSCOPED_INFO(finding.where + ": " + finding.what);
    REQUIRE(report.clean());
  }

  uint64_t inode_count() {
    return must(transactions->read(
        [](Access& access) -> Result<uint64_t> { return access.counters().inode_count; }));
  }
  /// Items of `type` in the fs tree; of one object, or of all.
  size_t count_items(ItemType type, std::optional<uint64_t> object = std::nullopt) {
    return must(transactions->read([&](Access& access) -> Result<size_t> {
      size_t count = 0;
      const Key first = object ? key_of(type, *object) : Key::min();
      const Key last = object ? key_of(type, *object, ~uint64_t{0}) : Key::max();
      TRY(tree().scan(access, first, last, [&](const Item& item) {
        if (item.key.type == static_cast<uint8_t>(type)) ++count;
        return true;
      }));
      return count;
    }));
  }

  std::unique_ptr<Filesystem> filesystem;

 private:
  const Setup setup_;
};

}  // namespace moltfs::fs::test
