// SPDX-License-Identifier: MIT
// A mounted volume without the kernel: volume, transactions, filesystem, replace engine and commit
// timer, wired together. The daemon serves it by FUSE; the simulator calls it directly.
//
// open()   1. the devices are opened as a volume
//          2. the transactions are opened; the fsync log is replayed in memory
//          3. the filesystem is opened; nothing has been written yet (but superblocks of members
//             that missed the last commit, alloc/volume/volume_open.cc)
//          4. the replace engine takes up a replace again: from here on writes are duplicated
//          5. what the fsync log brought is committed: the first write. Before, copies of its last
//             batch's data that a crash has cut off are written
//          6. the removal of orphans, the engine and the commit timer are started
//          A read-only mount ends after step 4 and never writes.
// close()  the removal of orphans and the engine are stopped (the next mount resumes a replace),
//          then the commit timer; then comes the last commit. The devices are closed when the
//          Mount is destroyed.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "alloc/base/background.h"
#include "alloc/volume/volume.h"
#include "fs/filesystem.h"
#include "fs/mount/replace_host.h"
#include "fs/mount/request_load.h"
#include "fs/tree/transaction.h"
#include "replace/engine.h"

namespace moltfs::fs {

struct MkfsOptions {
  alloc::Volume::CreateOptions volume;
  bool force = false;         ///< overwrite whatever filesystem is on the devices
  uint32_t uid = 0, gid = 0;  ///< owner of the root directory
};

/// Makes a filesystem on the devices at `paths`. Errors: device_in_use, foreign_signature ("PATH
/// holds ext4; ..."), device_too_small, invalid_argument, and those of opening a device; each with
/// a sentence.
Result<void> make_filesystem(Runtime& runtime, alloc::DeviceOpener& opener,
                             const std::vector<std::string>& paths, const MkfsOptions& options);

class Mount {
 public:
  struct Options {
    bool read_only = false;
    uint64_t cache_bytes = 256ull << 20;
    /// Asked now and then what cache_bytes should be (bytes); the cache shrinks or may grow. None:
    /// it stays.
    std::function<uint64_t()> wanted_cache_bytes;
    Nanoseconds commit_interval = std::chrono::seconds(5);  ///< 0: no timer
    Policy policy;
    std::vector<std::string> device_hints;  ///< -o device=PATH
    bool abandon_swap = false;              ///< -o abandon-replace
    bool degraded = false;                  ///< -o degraded
    replace::Engine::Options replace;
  };

  /// Errors: those of Volume::open, Transactions::open, Filesystem::open and Engine::restore.
  static Result<std::unique_ptr<Mount>> open(Runtime& runtime, alloc::DeviceOpener& opener,
                                             const std::vector<std::string>& paths,
                                             const Options& options);
  /// Calls close() if nobody has; a failed commit is logged.
  ~Mount();
  Mount(const Mount&) = delete;
  Mount& operator=(const Mount&) = delete;

  /// Returns the error of the last commit, if it failed. No operation of filesystem() may be under
  /// way, and none may follow.
  Result<void> close();
  /// As after a power cut: nothing more is written (simulator, tests). The Mount must then be
  /// destroyed.
  void abandon();

  const Options& options() const { return options_; }
  Filesystem& filesystem() { return *filesystem_; }
  Transactions& transactions() { return *transactions_; }
  alloc::Volume& volume() { return *volume_; }
  replace::Engine& replace() { return *engine_; }
  RequestLoad& request_load() { return request_load_; }
  Background& background() { return background_; }

 private:
  Mount(Runtime& runtime, const Options& options);
  Result<void> open_all(alloc::DeviceOpener& opener, const std::vector<std::string>& paths);
  Result<void> open_trees(alloc::DeviceOpener& opener, const std::vector<std::string>& paths);
  Result<void> open_filesystem();
  Result<void> restore_replace();
  void start();
  void stop_background();
  asio::awaitable<void> commit_timer();
  asio::awaitable<void> commit_after_interval();
  asio::awaitable<void> commit_once();
  asio::awaitable<void> cache_timer();
  void adjust_cache();
  void commit_unless_abandoned();

  const Options options_;
  Runtime& runtime_;
  RequestLoad request_load_;
  bool is_open_ = false;
  bool engine_runs_ = false;
  std::atomic<bool> is_abandoned_{false};
  std::atomic<bool> commit_is_requested_{false};
  Background background_;
  // Each uses those before it, hence the order.
  std::unique_ptr<alloc::Volume> volume_;
  std::unique_ptr<Transactions> transactions_;
  std::unique_ptr<Filesystem> filesystem_;
  std::unique_ptr<ReplaceHost> host_;
  std::unique_ptr<replace::Engine> engine_;
  std::unique_ptr<LogContent> last_batch_;  // of the fsync log, if its data was verified
};

}  // namespace moltfs::fs
