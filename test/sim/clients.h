// SPDX-License-Identifier: MIT
// The clients of a life: each works alone in a directory of its own, at random, and the oracle knows
// what the directory must hold.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fs/mount/mount.h"
#include "test/sim/oracle.h"
#include "test/sim/scheduler.h"
#include "test/sim/sim_disk.h"

namespace moltfs::sim {

/// Ends a life: a rule was broken.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Failure(fmt::format(format, std::forward<Args>(args)...));
}

/// Errors that end a client without being a failure: the power is off.
bool is_power_error(const Error& error);

struct Client {
  explicit Client(int n) : name("c" + std::to_string(n)), history(DirState{}) {}
  std::string name;
  InodeNumber directory;
  History history;
  uint64_t next_file = 1;
  FileId next_id = 1u << 20;  // above real inode numbers: ids of the oracle only
};

class Clients {
 public:
  /// `mount`: where the life keeps its mount; set while clients work. `operation_limit`: of all
  /// clients together. With `shares_load` the mount is told of each operation, so that a copier
  /// leaves the clients time.
  Clients(Scheduler& scheduler, SimDevices& devices, const std::unique_ptr<fs::Mount>& mount,
          uint64_t operation_limit, bool shares_load)
      : operation_limit_(operation_limit),
        shares_load_(shares_load),
        scheduler_(scheduler),
        runtime_(scheduler),
        devices_(devices),
        mount_(mount) {}

  bool fsyncs_much = false;
  /// Called before each sync; what it returns is called when the sync has succeeded.
  std::function<std::function<void()>(const Client&)> on_sync;

  /// Makes clients and their directories in the root.
  void add(int count);
  void make_directories();
  const std::vector<std::unique_ptr<Client>>& all() const { return all_; }
  uint64_t operations() const { return operations_; }

  /// Each client works in a task of its own until stop() is called, or the power fails.
  std::vector<std::unique_ptr<Task>> start();
  void stop() { stop_ = true; }
  bool stopping() const { return stop_; }
  /// One operation of any client, unless the limit is reached.
  void one_more();

  /// Everything that was done is durable.
  void all_durable();
  /// Compares the directories with the newest states.
  void verify_now();
  /// After a power cut: each directory must hold one state of its history.
  void verify_after_cut();

 private:
  uint64_t random(uint64_t bound) { return scheduler_.random(bound); }
  bool chance(double p) { return scheduler_.chance(p); }
  bool count_operation() { return ++operations_ <= operation_limit_; }

  DirState read(Client& client);
  void work(Client& client);
  Result<void> counted_operation(Client& client);
  Result<void> one_operation(Client& client);
  std::string random_bytes(uint64_t length);
  std::string any_name(Client& client);
  Result<void> step(Client& client, DirState next, const std::function<Result<void>()>& act);
  Result<void> with_file(Client& client, const std::string& name,
                         const std::function<Result<void>(InodeNumber)>& act);

  Result<void> create(Client& client);
  Result<void> change_content(Client& client);
  Result<void> unlink(Client& client, const std::string& name);
  Result<void> purge(Client& client);
  Result<void> change_names(Client& client);
  Result<void> set_xattr(Client& client);
  Result<void> sync(Client& client);
  Result<void> read_back(Client& client);

  const uint64_t operation_limit_;
  const bool shares_load_;
  Scheduler& scheduler_;
  SimRuntime runtime_;
  SimDevices& devices_;
  const std::unique_ptr<fs::Mount>& mount_;
  std::vector<std::unique_ptr<Client>> all_;
  uint64_t operations_ = 0, stamp_ = 0;
  bool stop_ = false;
};

}  // namespace moltfs::sim
