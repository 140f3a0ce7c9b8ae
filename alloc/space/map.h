// SPDX-License-Identifier: MIT
// The mapper: logical range -> what to read or write on which device.
//
//                publish(map B)              drain()
//   map A  ---------+---------------------------|  returns when the last guard on A is gone
//   guards on A  ===+==========x====x===========|
//   map B           +------------------------------------------------>
//   guards on B         ====    ==========   ====
//
// A *map* is an immutable picture of all chunks, the devices behind their devids and, while a
// replace is in progress, the duplication: which devid is the source and which device the target.
// Whoever does I/O takes a *guard* on the newest map and holds it until what the I/O was for is
// recorded (a write: until its extent record is in the trees). The replace engine publishes a new
// map and then waits for the guards of older ones, not merely for I/O.
//
// R1  While duplication is on, every write for the source is mapped to the target as well,
//     wherever the copier's cursor stands. The mapper cannot see the cursor: no type of this
//     header mentions it. What decides is a DuplicationRule; the product has exactly one.
//     (Tests bring others, to show how they lose data.)
//
// Reads are never mapped to the target.
//
// A guard keeps the devices of its map open. Maps are cheap to publish (pointers to chunks).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "alloc/base/runtime.h"
#include "alloc/device/device.h"
#include "alloc/disk/chunk.h"

namespace moltfs::alloc {

/// Decides whether a write to `on_source` also goes to the target.
class DuplicationRule {
 public:
  virtual ~DuplicationRule() = default;
  virtual bool duplicates(PhysicalRange on_source) const = 0;
};

/// The rule of the product: always.
class DuplicateEverything final : public DuplicationRule {
 public:
  bool duplicates(PhysicalRange) const override { return true; }
};

struct Duplication {
  DeviceId source;
  std::shared_ptr<Device> target;
  std::shared_ptr<const DuplicationRule> rule;
};

/// A contiguous piece of I/O on one device.
struct Segment {
  Device* device = nullptr;
  DeviceId devid;  ///< of the member; for the target: the source's devid
  PhysicalOffset offset;
  uint64_t length = 0;
  uint64_t buffer_offset = 0;  ///< of this piece within the caller's logical range
  bool to_target = false;      ///< a failure concerns the replace, not the user (R8)
};

using Segments = boost::container::small_vector<Segment, 4>;

class Map {
 public:
  using Devices = std::map<DeviceId, std::shared_ptr<Device>>;

  Map(std::shared_ptr<const ChunkList> chunks, std::shared_ptr<const Devices> devices,
      std::optional<Duplication> duplication);

  const ChunkList& chunks() const { return *chunks_; }
  const std::shared_ptr<const ChunkList>& shared_chunks() const { return chunks_; }
  const Devices& devices() const { return *devices_; }
  const std::shared_ptr<const Devices>& shared_devices() const { return devices_; }
  const std::optional<Duplication>& duplication() const { return duplication_; }
  /// The chunk that holds all of `range`; null if none does (a stale or rotten address).
  const Chunk* chunk_of(LogicalRange range) const;

  /// Where copy `copy` of `range` lies. Errors: bad_chunk_table if no chunk holds `range`,
  /// not_found if there is no such copy.
  Result<Segments> for_read(LogicalRange range, unsigned copy) const;
  /// All places `range` must be written to, the target's included. Error: bad_chunk_table.
  Result<Segments> for_write(LogicalRange range) const;

 private:
  std::shared_ptr<const ChunkList> chunks_;
  std::shared_ptr<const Devices> devices_;
  std::optional<Duplication> duplication_;
};

class Mapper;

/// Movable; releasing the last guard of an old map wakes drain().
class MapGuard {
 public:
  MapGuard() = default;
  MapGuard(MapGuard&& other) noexcept;
  MapGuard& operator=(MapGuard&& other) noexcept;
  ~MapGuard() { release(); }
  const Map& map() const { return *map_; }
  explicit operator bool() const { return mapper_ != nullptr; }
  void release();

 private:
  friend class Mapper;
  Mapper* mapper_ = nullptr;
  uint64_t epoch_ = 0;
  std::shared_ptr<const Map> map_;
};

class Mapper {
 public:
  Mapper(Runtime& runtime, std::shared_ptr<const Map> first);

  MapGuard acquire();
  std::shared_ptr<const Map> current() const;
  /// Guards taken from now on see `map`.
  void publish(std::shared_ptr<const Map> map);
  /// Atomically derives a new map from the current one and publishes it. `change` runs under the
  /// mapper's lock: memory only, no other lock, no call back into the mapper.
  void update(const std::function<std::shared_ptr<const Map>(const Map&)>& change);
  /// Waits until no guard on a map older than the current one (as of the call) is left.
  /// REQUIRES: the caller holds no guard.
  void drain();

 private:
  friend class MapGuard;
  void release(uint64_t epoch);

  mutable std::mutex mutex_;
  std::unique_ptr<WaitQueue> released_;
  std::shared_ptr<const Map> current_;  // guarded by mutex_, as all below
  uint64_t epoch_ = 0;
  std::map<uint64_t, uint64_t> guards_;  // epoch -> guards held
};

}  // namespace moltfs::alloc
