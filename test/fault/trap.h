// SPDX-License-Identifier: MIT
// The k-th request of a disk fails, and what the tests of that have in common.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "test/crash/lab.h"

namespace moltfs::fault {

using crash::Images;
using crash::World;

/// An error; or a read that gives wrong bytes: on its way only, or as they are on the disk from
/// then on (the first page of what is read).
enum class Fault { once, for_ever, rot_once, rot_for_ever };
const char* name_of(Fault fault);
inline constexpr std::array<Fault, 2> kErrors = {Fault::once, Fault::for_ever};

/// Makes the k-th request (rot: the k-th read) from now on of one disk fail, and with
/// Fault::for_ever all after it. With `mount`: only as long as the disk is not its member; from the
/// swap on its faults are the users' too.
class Trap {
 public:
  Trap(World& world, std::string disk, uint64_t k, Fault fault, fs::Mount* mount = nullptr);
  ~Trap() { heal(); }
  Trap(const Trap&) = delete;
  Trap& operator=(const Trap&) = delete;
  void heal();
  bool sprung() const { return sprung_; }

 private:
  bool due(const sim::Disk& on, fs::Mount* mount);
  void arm_errors(bool for_ever, fs::Mount* mount);
  void arm_rot(bool for_ever, fs::Mount* mount);

  World& world_;
  const std::string disk_;
  uint64_t left_;
  bool sprung_ = false;
};

/// `run` with k = 1, 2, 3 ... until it says that nothing failed. It returns what went wrong.
void each_request(Fault fault, const std::function<std::string(uint64_t k, bool& sprung)>& run);

Images with_target(const Images& member);
/// Until the replace is at an end, or suspended; throws if it hangs.
replace::Status wait(World& world, fs::Mount& mount);

/// The user's own work while a replace goes on: operations with a sync after each.
inline constexpr std::array<const char*, 3> kWork = {"write blocks", "overwrite",
                                                     "unlink one of two"};
/// All of it; throws if anything fails.
void work(fs::Mount& mount);
/// What prepared() holds before it and after each operation of it.
std::vector<sim::DirState> work_states();
void require_reason(const replace::Status& status);

}  // namespace moltfs::fault
