// SPDX-License-Identifier: MIT
// The mapper: from a logical range to the places on devices that are to be read or written.
//
//                publish(map B)              drain()
//   map A  ---------+---------------------------|  returns when the last guard on A is released
//   guards on A  ===+==========x====x===========|
//   map B           +------------------------------------------------>
//   guards on B         ====    ==========   ====
//
// A *map* is immutable. It holds all chunks, the device of each devid and, while a replace is in
// progress, the duplication: the devid of the source, and the target device. A task that does I/O
// takes a *guard* on the newest map and holds it until the purpose of the I/O is recorded (for a
// write: until its extent record is in the trees). The replace engine publishes a new map and then
// waits until the guards of older maps are released. So it waits for more than the I/O itself.
//
// R1  While duplication is on, every write to the source is mapped to the target as well, wherever
//     the copier's cursor is. The mapper cannot see the cursor: no type of this header mentions it.
//     A DuplicationRule decides, and the product has exactly one. (Tests use other rules, to show
//     how they lose data.)
//
// Reads are never mapped to the target. A device that is out is not in the map: neither reads nor
// writes are mapped to its stripes. While such a device is being replaced, writes to its stripes are
// mapped to the target alone.
//
// A guard keeps the devices of its map open. Publishing a map is cheap: it has pointers to chunks.
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

/// The rule of the product.
class DuplicateEverything final : public DuplicationRule {
 public:
  bool duplicates(PhysicalRange) const override { return true; }
};

struct Duplication {
  DeviceId source;
  std::shared_ptr<Device> target;
  std::shared_ptr<const DuplicationRule> rule;
};

/// A contiguous part of an I/O, on one device.
struct Segment {
  Device* device = nullptr;
  DeviceId devid;  ///< of the member; for the target: the source's devid
  PhysicalOffset offset;
  uint64_t length = 0;
  uint64_t buffer_offset = 0;  ///< of this part within the caller's logical range
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
  /// The chunk that holds all of `range`. Null if there is none (the address is stale or damaged).
  const Chunk* chunk_of(LogicalRange range) const;

  static constexpr unsigned kAnyCopy = ~0u;
  /// Where copy `copy` of `range` lies. kAnyCopy: for each piece, the copy on the device with the
  /// fewest reads under way. Errors: bad_chunk_table if no chunk holds `range`; not_found if there
  /// is no such copy; missing_device if its device is out.
  Result<Segments> for_read(LogicalRange range, unsigned copy) const;
  /// All places to which `range` must be written, those on the target included. Stripes on devices
  /// that are out are left out. Errors: bad_chunk_table; missing_device if a piece has no place.
  Result<Segments> for_write(LogicalRange range) const;
  /// True if copy `copy` of `at` is on a device that is in. Holds for the whole block and the whole
  /// node at `at`; another part of the chunk may lie on other devices.
  bool has_copy(LogicalOffset at, unsigned copy) const;
  /// The number of chunks with a piece that has no copy on a device that is in, if `without` were
  /// out as well.
  size_t chunks_lost(std::optional<DeviceId> without = std::nullopt) const;
  /// True if a write to `range` of devid `devid` goes to the target as well (R1).
  bool duplicates(DeviceId devid, PhysicalRange range) const;

 private:
  Device* device_of(DeviceId devid) const;  // null: it is out
  unsigned choose_copy(const Chunk& chunk, uint32_t column, uint64_t at) const;

  std::shared_ptr<const ChunkList> chunks_;
  std::shared_ptr<const Devices> devices_;
  std::optional<Duplication> duplication_;
};

class Mapper;

/// Keeps one map in use until it is released or destroyed. See Mapper::drain().
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
  /// Publishes a new map, which `change` makes from the current one: guards that are taken from now
  /// on have it. `change` runs under the mapper's lock: it must not do I/O, take another lock or
  /// call the mapper.
  void update(const std::function<std::shared_ptr<const Map>(const Map&)>& change);
  /// Waits until all guards on maps older than the one that is current when it is called are
  /// released. REQUIRES: the caller holds no guard.
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
