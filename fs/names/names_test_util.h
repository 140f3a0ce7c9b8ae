// SPDX-License-Identifier: MIT
// For tests: a filesystem on a device in memory, without the replace engine and without a commit
// timer, so that what is durable is what the test synced.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fs/check/check.h"
#include "fs/mount/mount.h"
#include "test/support/catch.h"
#include "test/support/memory_device.h"

namespace moltfs::fs::test {

/// The value of a result that must be one.
template <class T>
T must(Result<T> result) {
  if (!result) FAIL(result.error().message());
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

/// The code of an error; nothing for a success.
template <class T>
std::optional<Errc> code_of(const Result<T>& result) {
  if (result) return std::nullopt;
  return result.error().code;
}

inline std::vector<std::byte> bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

class TestFilesystem {
 public:
  explicit TestFilesystem(uint64_t size_bytes = 256ull << 20,
                          const Filesystem::Options& options = {})
      : options_(options) {
    devices_.add("mem:a", size_bytes);
    must(make_filesystem(runtime_, devices_, {"mem:a"}, {}));
    open();
  }
  ~TestFilesystem() { close(); }

  Filesystem* operator->() { return filesystem_.get(); }
  Filesystem& operator*() { return *filesystem_; }
  Runtime& runtime() { return runtime_; }
  Transactions& transactions() { return *transactions_; }
  moltfs::test::MemoryDevices& devices() { return devices_; }

  /// Unmounts in order and mounts again.
  void remount() {
    filesystem_->stop();
    must(transactions_->commit());
    close();
    open();
  }
  /// What was not synced is lost.
  void crash() {
    close();
    open();
  }
  /// Waits until orphans that nobody holds are gone; the filesystem can be used no more but
  /// looked at.
  void drain() { filesystem_->stop(); }

  /// Unmounts in order; REQUIRE that check finds nothing. Only destroy it afterwards.
  void unmount_and_check() {
    filesystem_->stop();
    must(transactions_->commit());
    close();
    const CheckReport report = must(check(runtime_, devices_, {"mem:a"}, {}));
    for (const Finding& finding : report.findings)
      UNSCOPED_INFO(finding.where + ": " + finding.what);
    REQUIRE(report.clean());
  }

  uint64_t inode_count() {
    return must(transactions_->read(
        [](Access& access) -> Result<uint64_t> { return access.counters().inode_count; }));
  }
  /// Items of `type` in the fs tree; of one object, or of all.
  size_t count_items(ItemType type, std::optional<uint64_t> object = std::nullopt) {
    return must(transactions_->read([&](Access& access) -> Result<size_t> {
      size_t count = 0;
      const Key first = object ? key_of(type, *object) : Key::min();
      const Key last = object ? key_of(type, *object, ~uint64_t{0}) : Key::max();
      TRY(transactions_->fs_tree().scan(access, first, last, [&](const Item& item) {
        if (item.key.type == static_cast<uint8_t>(type)) ++count;
        return true;
      }));
      return count;
    }));
  }

 private:
  void open() {
    volume_ = must(alloc::Volume::open(runtime_, devices_, {"mem:a"}, {}));
    transactions_ = must(Transactions::open(*volume_, {}));
    filesystem_ = must(Filesystem::open(runtime_, *transactions_, options_));
    if (volume_->found_log().begun) must(transactions_->commit(true));
    filesystem_->start();
  }
  void close() {
    filesystem_.reset();
    transactions_.reset();
    volume_.reset();
  }

  RealRuntime runtime_;
  moltfs::test::MemoryDevices devices_;
  const Filesystem::Options options_;
  std::unique_ptr<alloc::Volume> volume_;
  std::unique_ptr<Transactions> transactions_;
  std::unique_ptr<Filesystem> filesystem_;
};

/// Makes something and drops its reference.
inline Attributes make(TestFilesystem& fs, InodeNumber parent, std::string_view name, uint32_t mode,
                       const Caller& caller = {}) {
  const Attributes made = must(fs->make(parent, name, mode, 0, caller));
  fs->forget(made.ino, 1);
  return made;
}

/// All names of a directory but "." and "..", in readdir order.
inline std::vector<DirEntry> list(TestFilesystem& fs, InodeNumber directory) {
  std::vector<DirEntry> entries;
  must(fs->read_directory(directory, 0, false, [&](const DirEntry& entry, const Attributes*) {
    if (entry.name != "." && entry.name != "..") entries.push_back(entry);
    return true;
  }));
  return entries;
}

}  // namespace moltfs::fs::test
