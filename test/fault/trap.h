// SPDX-License-Identifier: MIT
// Makes the k-th request of a disk fail, and what tests of that share.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "test/crash/lab.h"

namespace moltfs::fault {

using crash::Images;
using crash::World;

/// An error, or a read that gives wrong bytes in its first page: only this read, or also on the
/// disk from then on.
enum class Fault { once, for_ever, rot_once, rot_for_ever };
const char* name_of(Fault fault);
inline constexpr std::array<Fault, 2> kErrors = {Fault::once, Fault::for_ever};

/// Makes the k-th request from now on (rot: the k-th read) of one disk fail, and with
/// Fault::for_ever all later ones. With `mount`: only while the disk is not a member of it; after
/// the swap its faults would reach users.
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

/// Calls `run` with k = 1, 2, 3 ... until no request failed. `run` returns what went wrong.
void each_request(Fault fault, const std::function<std::string(uint64_t k, bool& sprung)>& run);

Images with_target(const Images& member);
/// Waits until the replace has ended or is suspended; throws if it hangs.
replace::Status wait(World& world, fs::Mount& mount);

/// What the user does while a replace runs: operations with a sync after each.
inline constexpr std::array<const char*, 3> kWork = {"write blocks", "overwrite",
                                                     "unlink one of two"};
/// Does all of kWork; throws if anything fails.
void work(fs::Mount& mount);
/// What prepared() holds before kWork and after each of its operations.
std::vector<sim::DirState> work_states();
void require_reason(const replace::Status& status);

}  // namespace moltfs::fault
