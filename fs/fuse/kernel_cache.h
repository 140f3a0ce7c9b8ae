// SPDX-License-Identifier: MIT
// What the kernel has cached of this mount, and what it can be told about that.
#pragma once

#include <cstddef>
#include <cstdint>

struct fuse_session;

namespace moltfs::fs::fuse {

/// An interface, because the simulator has a kernel of its own (test/sim).
class KernelCache {
 public:
  virtual ~KernelCache() = default;
  /// The cached attributes of the inode are no longer true. Names and pages stay.
  virtual void forget_attributes(uint64_t ino) = 0;
  /// The cached number of blocks of the inode is no longer true. Unlike forget_attributes(), this
  /// does not make the kernel ask for mode and owner again.
  virtual void forget_blocks(uint64_t ino) = 0;
  /// Makes the kernel write back the dirty pages of the inode and drop all of them, and waits for
  /// that. Never call it on a receive thread: the write-back consists of requests.
  virtual void write_back(uint64_t ino) = 0;
  /// Makes the kernel drop its pages of a part of the file. `size` > 0. Never call it on a receive
  /// thread: it waits for pages that the kernel is reading.
  virtual void drop(uint64_t ino, uint64_t offset, size_t size) = 0;
};

/// The kernel's side of a libfuse session.
class SessionCache final : public KernelCache {
 public:
  /// Before the first request is served.
  void set_session(fuse_session* session) { session_ = session; }

  void forget_attributes(uint64_t ino) override;
  void forget_blocks(uint64_t ino) override;
  void write_back(uint64_t ino) override;
  void drop(uint64_t ino, uint64_t offset, size_t size) override;

 private:
  fuse_session* session_ = nullptr;
};

}  // namespace moltfs::fs::fuse
