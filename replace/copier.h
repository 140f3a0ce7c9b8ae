// SPDX-License-Identifier: MIT
// The copier: copies one window of the source to the target.
//
//   freeze -> list -> drop what is covered -> read from the source -> verify -> write -> thaw
//
// If the source is out, it reads from another copy of the chunk instead.
//
// R3  It writes only what was born before duplication and is not covered.
// R4  It never overwrites newer data: it lists the window after freezing it. So nothing that is not
//     listed becomes allocated in it, and what is listed is never rewritten in place.
//
// One request reads neighbours, also across small gaps. What cannot be read or does not match its
// checksum is read again, block by block, and then from the chunk's other copies. What no copy has
// right is not written to the target; the result says where it is.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "alloc/volume/volume.h"
#include "replace/coverage.h"
#include "replace/host.h"

namespace moltfs::replace {

struct WindowResult {
  bool done = false;  ///< the target has everything in it now, except what is unreadable
  uint64_t copied_bytes = 0, skipped_bytes = 0;
  uint64_t recopied_bytes = 0;  ///< part of copied_bytes
  uint64_t read_corrected = 0;
  std::vector<PhysicalRange> unreadable;  ///< blocks and nodes that no copy has right, ascending
  std::string first_unreadable;           ///< the owner of the first one
  std::optional<Error> failure;           ///< not done: not listed, or the source is gone
                                          ///< and no other copy has what was on it
  std::optional<Error> target_failure;    ///< not done: the target failed
};

class Copier {
 public:
  struct Setup {
    DeviceId source;
    std::shared_ptr<alloc::Device> target;
    Coverage coverage;             ///< as it was when the walk began
    PhysicalOffset started_right;  ///< of the walk before this one, see Record
    Generation walk_before;
    std::function<bool()> give_up;  ///< called between the steps; true: stop here
  };
  Copier(alloc::Volume& volume, Host& host, Setup setup);

  /// (waits) Copies `window`. `buffer` is at least as long as the window; each task has its own.
  WindowResult copy(PhysicalRange window, Bytes buffer);

 private:
  /// What is to be copied: an extent or a node.
  struct Item {
    AllocatedExtent extent;
    PhysicalOffset at;  // on the source
    bool read_failed = false;
    PhysicalRange range() const { return {at, extent.length}; }
  };
  struct Window;

  Result<void> copy_piece(Window& window, const alloc::Space::FrozenPiece& piece);
  Result<std::vector<Item>> list(Window& window, const alloc::Space::FrozenPiece& piece);
  void read(Window& window, std::vector<Item>& items);
  void read_another_copy(Window& window, const alloc::Space::FrozenPiece& piece,
                         std::vector<Item>& items);
  void verify(Window& window, const alloc::Space::FrozenPiece& piece, const Item& item);
  bool recover(const AllocatedExtent& block, unsigned own_copy, Bytes into);
  void write(Window& window);

  alloc::Volume& volume_;
  Host& host_;
  const Setup setup_;
};

}  // namespace moltfs::replace
