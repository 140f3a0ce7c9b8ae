// SPDX-License-Identifier: MIT
// Segments of every profile, duplication (R1), guards and drain.
#include "alloc/space/map.h"

#include <atomic>
#include <random>

#include "alloc/space/space_test_util.h"
#include "test/support/catch.h"

namespace moltfs::alloc {
namespace {

using test::kMiB;

class LeftOf final : public DuplicationRule {
 public:
  explicit LeftOf(uint64_t end) : end_(end) {}
  bool duplicates(PhysicalRange range) const override { return range.end().value <= end_; }

 private:
  uint64_t end_;
};

std::shared_ptr<const Map> map_of_all(std::optional<Duplication> duplication = std::nullopt) {
  auto all = test::chunks_of_all_profiles();
  return std::make_shared<Map>(std::make_shared<ChunkList>(all.begin(), all.end()),
                               test::four_devices(), duplication);
}

void publish_another(Mapper& mapper) {
  mapper.update([](const Map&) { return map_of_all(); });
}

/// Where byte `at` of copy `copy` lies, as chunk.h describes it.
std::pair<DeviceId, PhysicalOffset> place_of(const Chunk& chunk, LogicalOffset at, unsigned copy) {
  const uint64_t offset = at - chunk.start;
  const uint64_t unit = offset / chunk.stripe_unit;
  const uint32_t column = static_cast<uint32_t>(unit % chunk.columns());
  const Stripe& stripe = chunk.stripes[column * chunk.copies + copy];
  return {stripe.device,
          stripe.offset + unit / chunk.columns() * chunk.stripe_unit + offset % chunk.stripe_unit};
}

TEST_CASE("has_copy asks for the device of that place only") {
  const auto all = map_of_all();
  for (const auto& [out, device] : all->devices()) {
    auto others = all->devices();
    others.erase(out);
    const Map map(all->shared_chunks(), std::make_shared<Map::Devices>(others), std::nullopt);
    for (const auto& chunk : map.chunks()) {
      for (uint64_t at = 0; at < chunk->length; at += kNodeSize) {
        for (unsigned copy = 0; copy < chunk->copies; ++copy) {
          const bool is_in = place_of(*chunk, chunk->start + at, copy).first != out;
          REQUIRE(map.has_copy(chunk->start + at, copy) == is_in);
          REQUIRE(map.for_read({chunk->start + at, kNodeSize}, copy).has_value() == is_in);
        }
        REQUIRE_FALSE(map.has_copy(chunk->start + at, chunk->copies));
      }
    }
  }
}

TEST_CASE("for_read maps every byte of every profile, in order, and never to the target") {
  auto target = std::make_shared<test::NoDevice>(test::kGiB);
  auto map = map_of_all(Duplication{DeviceId(1), target, std::make_shared<DuplicateEverything>()});
  std::mt19937_64 random(7);
  for (int i = 0; i < 500; ++i) {
    const auto& chunk = map->chunks()[random() % map->chunks().size()];
    const uint64_t first = random() % (chunk->length / 4096) * 4096;
    const uint64_t length = (1 + random() % ((chunk->length - first) / 4096)) * 4096;
    const LogicalRange range{chunk->start + first, length};
    for (unsigned copy = 0; copy < chunk->copies; ++copy) {
      auto segments = map->for_read(range, copy);
      REQUIRE(segments);
      uint64_t done = 0;
      for (const Segment& s : segments.value()) {
        REQUIRE(s.buffer_offset == done);
        REQUIRE_FALSE(s.to_target);
        REQUIRE(s.device != target.get());
        REQUIRE(s.device == map->devices().at(s.devid).get());
        for (uint64_t byte : {uint64_t{0}, s.length / 2, s.length - 1}) {
          REQUIRE(place_of(*chunk, range.start + done + byte, copy) ==
                  std::pair(s.devid, s.offset + byte));
        }
        done += s.length;
      }
      REQUIRE(done == length);
      if (chunk->columns() == 1) REQUIRE(segments.value().size() == 1);
    }
    CHECK(map->for_read(range, chunk->copies).error() == Errc::not_found);
  }
}

TEST_CASE("R1: for_write has the target for every piece on the source, in every profile") {
  auto target = std::make_shared<test::NoDevice>(test::kGiB);
  auto map = map_of_all(Duplication{DeviceId(1), target, std::make_shared<DuplicateEverything>()});
  for (const auto& chunk : map->chunks()) {
    INFO(name_of(chunk->profile));
    auto segments = map->for_write(chunk->range());
    REQUIRE(segments);
    uint64_t on_members = 0, on_source = 0, on_target = 0;
    for (const Segment& s : segments.value()) {
      if (!s.to_target) {
        on_members += s.length;
        if (s.devid == DeviceId(1)) on_source += s.length;
        continue;
      }
      on_target += s.length;
      CHECK(s.device == target.get());
      CHECK(s.devid == DeviceId(1));
      unsigned twins = 0;
      for (const Segment& o : segments.value()) {
        twins += !o.to_target && o.devid == s.devid && o.offset == s.offset &&
                 o.length == s.length && o.buffer_offset == s.buffer_offset;
      }
      CHECK(twins == 1);
    }
    CHECK(on_members == chunk->length * chunk->copies);
    CHECK(on_source > 0);
    CHECK(on_target == on_source);
  }
}

TEST_CASE(
    "the duplication rule decides for each part; without duplication nothing goes to a target") {
  auto target = std::make_shared<test::NoDevice>(test::kGiB);
  auto map = map_of_all(Duplication{DeviceId(1), target, std::make_shared<LeftOf>(25 * kMiB)});
  auto dup = map->for_write({LogicalOffset(kMiB), kMiB});  // copies at 20 and 30 MiB
  REQUIRE(dup);
  REQUIRE(dup.value().size() == 3);
  CHECK(dup.value()[1].to_target);
  CHECK(dup.value()[1].offset == PhysicalOffset(20 * kMiB));
  auto plain = map_of_all()->for_write({LogicalOffset(kMiB), kMiB});
  REQUIRE(plain);
  CHECK(plain.value().size() == 2);
}

TEST_CASE("addresses outside all chunks are errors") {
  auto map = map_of_all();
  CHECK(map->for_read({LogicalOffset(10 * kMiB), 4096}, 0).error() == Errc::bad_chunk_table);
  CHECK(map->for_write({LogicalOffset(kMiB - 4096), 8192}).error() == Errc::bad_chunk_table);
  CHECK(map->for_write({LogicalOffset(0), ~uint64_t{0}}).error() == Errc::bad_chunk_table);
  CHECK(map->for_read({LogicalOffset(~uint64_t{0} - 4095), 4096}, 0).error() ==
        Errc::bad_chunk_table);
  Map no_devices(map->shared_chunks(), std::make_shared<Map::Devices>(), std::nullopt);
  CHECK(no_devices.for_read({LogicalOffset(0), 4096}, 0).error() == Errc::missing_device);
}

TEST_CASE("a guard has the map that was current when it was taken, and keeps it alive") {
  RealRuntime runtime;
  auto first = map_of_all();
  std::weak_ptr<const Map> watch = first;
  Mapper mapper(runtime, std::move(first));
  MapGuard guard = mapper.acquire();
  publish_another(mapper);
  CHECK(&guard.map() == watch.lock().get());
  CHECK(&mapper.acquire().map() == mapper.current().get());
  MapGuard moved = std::move(guard);
  CHECK_FALSE(guard);
  CHECK(moved);
  moved.release();
  CHECK(watch.expired());
}

TEST_CASE("drain waits for the guards of older maps, and only for those") {
  test::ScriptedRuntime runtime;
  Mapper mapper(runtime, map_of_all());
  mapper.drain();  // no guard is held: does not wait
  MapGuard old = mapper.acquire();
  publish_another(mapper);
  MapGuard young = mapper.acquire();
  MapGuard youngest;
  int waits = 0;
  runtime.on_wait = [&] {
    if (++waits == 1) {
      // A map that is published meanwhile does not make it wait for more.
      publish_another(mapper);
      youngest = mapper.acquire();
    } else {
      old.release();
    }
  };
  mapper.drain();
  CHECK(waits == 2);
  CHECK_FALSE(old);
  CHECK(young);
  CHECK(youngest);
}

TEST_CASE("after drain no guard on the old map is left, though four tasks go on taking guards") {
  RealRuntime runtime;
  Mapper mapper(runtime, map_of_all());
  std::atomic<bool> stop = false;
  std::mutex mutex;
  std::map<const Map*, int> holders;
  auto count = [&](const Map* map, int change) {
    std::lock_guard lock(mutex);
    holders[map] += change;
  };
  std::vector<std::unique_ptr<Task>> tasks;
  for (int i = 0; i < 4; ++i) {
    tasks.push_back(runtime.spawn("user", [&] {
      while (!stop) {
        MapGuard guard = mapper.acquire();
        const Map* map = &guard.map();
        count(map, 1);
        count(map, -1);
      }
    }));
  }
  int left_behind = 0;
  for (int i = 0; i < 300; ++i) {
    auto old = mapper.current();
    mapper.update([](const Map& m) {
      return std::make_shared<Map>(m.shared_chunks(), m.shared_devices(), m.duplication());
    });
    mapper.drain();
    std::lock_guard lock(mutex);
    left_behind += holders[old.get()];
  }
  stop = true;
  for (auto& task : tasks) task->join();
  CHECK(left_behind == 0);
}

}  // namespace
}  // namespace moltfs::alloc
