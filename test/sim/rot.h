// SPDX-License-Identifier: MIT
// A device that rots: bytes on it change by themselves, also while it is being replaced.
//
// Bytes on the simulated disk really change, until they are written again. Rot affects
//   nodes   one of two copies that are both good on the medium: the user must not notice anything,
//   data    blocks of a few files that no other client touches. Data has one copy.
//
// The oracle does not ask the product where a block is: each block has unique bytes, and the oracle
// searches the disk for them. From then on the member's disk shows whether a block is good or
// rotten: reading it must give its bytes, or an error if they are not there, and nothing else. A
// replace that finishes must have counted what its target lacks and named a file; a check must find
// exactly that.
#pragma once

#include <array>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "fs/check/check.h"
#include "fs/filesystem.h"
#include "replace/status.h"
#include "test/sim/scheduler.h"
#include "test/sim/sim_disk.h"

namespace moltfs::sim {

class Rot {
 public:
  Rot(Scheduler& scheduler, SimDevices& devices) : scheduler_(scheduler), devices_(devices) {}

  /// Makes the files, durably.
  void make(fs::Filesystem& filesystem, const Disk& member);

  /// Failures are thrown. `member` returns the disk that is the member now.
  using Member = std::function<const Disk&()>;
  /// Does one thing at random: a block or a node rots, a file is read, a block is rewritten. False:
  /// the power is off.
  bool step(fs::Filesystem& filesystem, const Member& member);
  /// Reads everything. After a power cut, a block that was being written is the old or the new one.
  void verify(fs::Filesystem& filesystem, const Member& member);
  /// `target` became the member in a replace that ended with `status`.
  void check_finished(const replace::Status& status, const Disk& target) const;
  /// Compares `report`, of a check of `member` alone, with what is rotten.
  void check_findings(const fs::CheckReport& report, const Disk& member) const;

  bool spoilt_nodes() const { return !nodes_.empty(); }
  uint64_t spoilt_count() const { return spoilt_block_count_ + nodes_.size(); }

 private:
  using Page = PageImage::Page;
  struct Block {
    Page bytes{};
    std::optional<Page> next;  ///< being written; durable only if the commit succeeds
    uint64_t place = 0;        ///< offset on the member; 0: not known, then it does not rot
    std::string spoilt_on;     ///< name of the disk on which it rotted last
  };
  struct File {
    std::string name;
    InodeNumber ino;
    std::vector<Block> blocks;
  };
  struct SpoiltNode {
    std::string disk;
    uint64_t offset = 0;
    std::vector<std::byte> bytes;  ///< as they are now
  };

  void spoil(Disk& disk, uint64_t offset, uint64_t length);
  void spoil_block(Disk& disk);
  void spoil_node(Disk& disk);
  bool rewrite(fs::Filesystem& filesystem, const Member& member);
  bool read_file(fs::Filesystem& filesystem, const Member& member, File& file);
  bool read_block(fs::Filesystem& filesystem, const Member& member, File& file, size_t index);
  static bool is_good(const Block& block, const Disk& disk);
  Page fresh_bytes();
  Block& any_block();

  Scheduler& scheduler_;
  SimDevices& devices_;
  std::vector<File> files_;
  std::vector<SpoiltNode> nodes_;
  uint64_t stamp_ = 0, spoilt_block_count_ = 0;
};

}  // namespace moltfs::sim
