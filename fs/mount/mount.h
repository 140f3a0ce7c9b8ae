// SPDX-License-Identifier: MIT
// A mounted volume without the kernel: volume, transactions, filesystem, replace engine and timers
// wired together. The daemon puts FUSE on top of it, the simulator its clients.
//
// open():  devices -> volume -> transactions (replay the fsync log in memory) -> replace engine
//          resumes (duplication is on before the first write) -> commit of what was replayed ->
//          filesystem -> orphans, commit timer.
// close(): orphans, engine stops (a running replace is only interrupted: the next mount resumes it),
//          last commit, devices are closed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "alloc/base/background.h"
#include "alloc/volume/volume.h"
#include "fs/filesystem.h"
#include "fs/mount/busy_time.h"
#include "fs/tree/transaction.h"
#include "replace/engine.h"

namespace moltfs::fs {

struct MkfsOptions {
  alloc::Volume::CreateOptions volume;
  bool force = false;         ///< overwrite a foreign signature, or an old moltfs
  uint32_t uid = 0, gid = 0;  ///< owner of the root directory
};

/// Makes a filesystem on `paths`. Errors: device_in_use, foreign_signature ("PATH holds ext4; ..."),
/// device_too_small, and whatever opening gives; each with a sentence.
Result<void> make_filesystem(Runtime& runtime, alloc::DeviceOpener& opener,
                             const std::vector<std::string>& paths, const MkfsOptions& options);

class Mount {
 public:
  struct Options {
    bool read_only = false;
    uint64_t cache_bytes = 256ull << 20;
    Nanoseconds commit_interval = std::chrono::seconds(5);  ///< 0: no timer
    Policy policy;
    std::vector<std::string> device_hints;  ///< -o device=PATH
    bool abandon_swap = false;              ///< -o abandon-replace
    replace::Engine::Options replace;
  };

  static Result<std::unique_ptr<Mount>> open(Runtime& runtime, alloc::DeviceOpener& opener,
                                             const std::vector<std::string>& paths,
                                             const Options& options);
  /// close(), if it was not called.
  ~Mount();
  /// The error of the last commit, if any. Nothing may be under way in filesystem().
  Result<void> close();
  /// The power is cut: nothing more is written (simulator, tests). Then destroy.
  void abandon();

  Filesystem& filesystem();
  Transactions& transactions();
  alloc::Volume& volume();
  replace::Engine& replace();
  RequestBusyTime& serving();
  Background& background();

 private:
  class Impl;
  explicit Mount(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moltfs::fs
