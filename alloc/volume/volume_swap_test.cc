// SPDX-License-Identifier: MIT
// Duplication and the swap, with faults and crashes at each step.
#include "alloc/volume/volume_swap.h"

#include <thread>

#include "alloc/space/space_test_util.h"
#include "alloc/volume/volume_test_util.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::alloc;
using namespace moltfs::alloc::test;

namespace {

/// A volume on mem:a and mem:b. mem:a is being replaced by mem:t: armed and copied.
struct Replace {
  TestDisks disks;
  FakeEngine engine;
  std::unique_ptr<Volume> volume;
  Target target;
  LogicalOffset old_data, new_data;  // written before arming, and under duplication
  std::optional<SwapOutcome> outcome;

  explicit Replace(uint64_t target_bytes = 64 * kMiB)
      : disks({{"mem:a", 64 * kMiB}, {"mem:b", 16 * kMiB}, {"mem:t", target_bytes}}) {
    volume = disks.create({"mem:a", "mem:b"}).value();
    engine.volume = volume.get();
    volume->set_hook(&engine);
    old_data = put(*volume, 1, Generation(1)).value();
    REQUIRE(commit(*volume, 1));
    target = make_target(disks, *volume, DeviceId(1), "mem:t").value();
    volume->arm(DeviceId(1), target.device, std::make_shared<DuplicateEverything>());
    new_data = put(*volume, 2, Generation(2)).value();
    copy_all(disks, *volume, "mem:a", "mem:t");
    REQUIRE(commit(*volume, 2));
  }

  void announce() {
    volume->set_pending_swap(
        Superblock::Succession{DeviceId(1), target.entry.uuid, target.entry.path});
    REQUIRE(commit(*volume, 3));
  }
  Result<void> swap() {
    volume->request_swap(DeviceId(1), target.entry, [this](const SwapOutcome& o) { outcome = o; });
    return commit(*volume, 4);
  }
  void check_data(Volume& v) {
    REQUIRE(holds(v, old_data, 1).value());
    REQUIRE(holds(v, new_data, 2).value());
  }
  std::string path_of_first(const Volume& v) { return v.devices().front().path; }
  void close() {
    volume.reset();
    target.device.reset();
    disks.devices.set_hook(nullptr);
  }
};

Result<void> fail() {
  return Error(Errc::io_error, "the device does not answer");
}

/// The volume as it stands, on clones of its disks.
struct Image {
  TestDisks disks{{}};

  explicit Image(Replace& replace) {
    for (const std::string path : {"mem:a", "mem:b", "mem:t"}) {
      disks.devices.insert(path, replace.disks.devices.disk(path).clone());
    }
  }
};

}  // namespace

TEST_CASE("while armed every write for the source goes to the target, reads do not") {
  Replace r;
  REQUIRE(r.volume->duplicated_bytes() > 0);
  const auto reads = r.target.device->counters().reads.load();
  REQUIRE(holds(*r.volume, r.new_data, 2).value());
  REQUIRE(r.target.device->counters().reads == reads);

  // A repair is a write, too.
  auto guard = r.volume->acquire_map();
  const auto place = guard.map().for_read({r.old_data, 65536}, 0).value().front();
  REQUIRE(place.devid == DeviceId(1));
  r.disks.devices.disk("mem:a").corrupt(place.offset.value, 4096);
  r.disks.devices.disk("mem:t").corrupt(place.offset.value, 4096);
  auto right = pattern(1);
  REQUIRE(r.volume->repair(guard, r.old_data, right.span().first(4096), 0));
  std::vector<std::byte> found(65536);
  r.disks.devices.disk("mem:t").read(place.offset.value, found);
  REQUIRE(std::memcmp(found.data(), right.data(), found.size()) == 0);
  REQUIRE(holds(*r.volume, r.old_data, 1).value());
}

TEST_CASE("faults of the target go to the hook, once for each batch, and never surface") {
  Replace r;
  r.disks.devices.set_hook([](const IoRequest& request) -> Result<void> {
    if (request.device->path() != "mem:t") return ok();
    return fail();
  });
  SECTION("write") {
    auto range = r.volume->space().allocate_data(65536, Generation(3)).value();
    auto guard = r.volume->acquire_map();
    auto bytes = pattern(3);
    std::vector<LogicalWrite> writes;
    for (uint64_t at = 0; at < range.length; at += 4096) {
      writes.push_back({range.start + at, bytes.span().subspan(at, 4096)});
    }
    REQUIRE(r.volume->write(guard, writes));
    REQUIRE(r.engine.faults == 1);
    REQUIRE(!r.volume->mapper().current()->duplication());
  }
  SECTION("flush") {
    REQUIRE(commit(*r.volume, 3));
    REQUIRE(r.engine.faults == 1);
    REQUIRE(std::count(r.engine.calls.begin(), r.engine.calls.end(), "flushed") == 2);
  }
  REQUIRE(commit(*r.volume, 4));
  r.check_data(*r.volume);
}

TEST_CASE("while a smaller target is armed, new chunks end within it") {
  Replace r(32 * kMiB);
  while (r.volume->space().allocate_data(kMiB, Generation(3))) {
  }
  REQUIRE(r.volume->space().last_extent_end(DeviceId(1)) <= 32 * kMiB);
  r.volume->disarm();
  REQUIRE(!r.volume->mapper().current()->duplication());
  while (r.volume->space().allocate_data(kMiB, Generation(3))) {
  }
  REQUIRE(r.volume->space().last_extent_end(DeviceId(1)) > 32 * kMiB);
}

TEST_CASE("disarming waits for discards on the target that are under way") {
  Replace r;
  // Chunks on the source that are empty at the next commit.
  std::vector<LogicalRange> ranges;
  for (int i = 0; i < 4; ++i) {
    ranges.push_back(r.volume->space().allocate_data(kMiB, Generation(3)).value());
    r.volume->space().record_data(ranges.back());
  }
  for (const auto& range : ranges) {
    r.volume->space().free_data(range, Generation(3), Generation(3));
  }
  std::unique_ptr<Task> disarmer;
  std::atomic<bool> disarmed{false};
  bool waited = false;
  r.disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (request.op != IoOp::discard || request.device->path() != "mem:t" || disarmer) return ok();
    disarmer = r.disks.runtime.spawn("disarmer", [&] {
      r.volume->disarm();
      disarmed = true;
    });
    while (!disarmed && r.disks.runtime.waiting() == 0) std::this_thread::yield();
    waited = !disarmed;
    return ok();
  });
  REQUIRE(commit(*r.volume, 3));
  REQUIRE(disarmer);
  disarmer->join();
  CHECK(waited);
  r.disks.devices.set_hook(nullptr);
}

TEST_CASE("a swap puts the target in the source's place") {
  Replace r(80 * kMiB);
  r.announce();
  auto old_guard = r.volume->acquire_map();
  REQUIRE(r.swap());
  REQUIRE(r.outcome->done);
  REQUIRE(r.volume->devices().front().path == "mem:t");
  REQUIRE(r.volume->devices().front().size_bytes == 80 * kMiB);
  REQUIRE(r.volume->device(DeviceId(1)) == r.target.device);
  REQUIRE(!r.volume->superblock().pending_swap);
  REQUIRE(r.volume->space().usage().device_bytes == (76 + 12) * kMiB);
  REQUIRE(r.engine.faults == 0);
  r.check_data(*r.volume);

  // Under the old map: the source may fail now, the target may not.
  auto bytes = pattern(2);
  const LogicalWrite write{r.new_data, bytes.span()};
  auto fail_on = [&](const std::string& path) {
    r.disks.devices.set_hook([path](const IoRequest& request) {
      return request.device->path() == path ? fail() : ok();
    });
  };
  fail_on("mem:a");
  REQUIRE(r.volume->write(old_guard, {&write, 1}));
  fail_on("mem:t");
  auto written = r.volume->write(old_guard, {&write, 1});
  REQUIRE(written.error() == Errc::io_error);
  REQUIRE(r.engine.faults == 0);
  r.disks.devices.set_hook(nullptr);
  old_guard.release();

  SECTION("durably") {
    r.close();
    auto source = r.disks.open({"mem:a"});
    REQUIRE(source.error() == Errc::replaced_device);
    REQUIRE(source.error().message().find("mem:t") != std::string::npos);
    r.disks.devices.remove("mem:a");
    for (const std::string path : {"mem:t", "mem:b"}) {
      auto volume = r.disks.open({path});
      REQUIRE(volume);
      REQUIRE(r.path_of_first(*volume.value()) == "mem:t");
      REQUIRE(volume.value()->superblock().replace_payload == std::vector{std::byte{4}});
      r.check_data(*volume.value());
    }
  }
  SECTION("and the next commit forgets the predecessor") {
    REQUIRE(r.volume->superblock().predecessor);
    REQUIRE(commit(*r.volume, 5));
    REQUIRE(!r.volume->superblock().predecessor);
    r.close();
    REQUIRE(r.disks.open({"mem:t"}));
  }
}

TEST_CASE("a swap that was not announced, or has lost its duplication, fails harmlessly") {
  Replace r;
  SECTION("not announced") {
    REQUIRE(r.swap());
    REQUIRE(r.outcome->reason == "no commit before has announced it");
  }
  SECTION("no duplication") {
    r.announce();
    r.volume->disarm();
    REQUIRE(r.swap());
  }
  SECTION("the hook says no") {
    r.announce();
    r.engine.stands = false;
    REQUIRE(r.swap());
  }
  SECTION("switched off within the window") {
    r.announce();
    r.engine.when_asked = [&] { r.volume->disarm_soon(); };
    REQUIRE(r.swap());
  }
  SECTION("withdrawn") {
    r.announce();
    r.volume->request_swap(DeviceId(1), r.target.entry,
                           [&](const SwapOutcome& o) { r.outcome = o; });
    REQUIRE(r.volume->withdraw_swap());
    REQUIRE(!r.volume->withdraw_swap());
    REQUIRE(commit(*r.volume, 4));
    REQUIRE(!r.outcome);
    r.outcome = SwapOutcome{};
  }
  REQUIRE(r.outcome);
  REQUIRE(!r.outcome->done);
  REQUIRE(r.path_of_first(*r.volume) == "mem:a");
  REQUIRE(commit(*r.volume, 5));
  r.close();
  auto volume = r.disks.open({"mem:a"});
  REQUIRE(volume);
  r.check_data(*volume.value());
  REQUIRE(r.disks.open({"mem:t"}).error() == Errc::bad_target);
}

TEST_CASE("the k-th request to the target fails during a swap") {
  bool failed = true;
  unsigned not_done = 0;
  for (bool for_ever : {false, true}) {
    failed = true;
    for (unsigned k = 1; failed; ++k) {
      REQUIRE(k < 50);
      Replace r;
      r.announce();
      unsigned count = 0;
      failed = false;
      r.disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
        if (request.device->path() != "mem:t") return ok();
        ++count;
        if (count != k && !(for_ever && count > k)) return ok();
        failed = true;
        return fail();
      });
      auto result = r.swap();
      REQUIRE(r.outcome);
      if (!r.outcome->done) {
        // Only the engine notices.
        ++not_done;
        REQUIRE(result);
        REQUIRE(!r.outcome->reason.empty());
        REQUIRE(r.engine.faults == 1);
        REQUIRE(r.path_of_first(*r.volume) == "mem:a");
        r.check_data(*r.volume);
      }
      r.close();
      // Exactly one of the two is the member, whichever device is named.
      for (const std::string path : {"mem:a", "mem:t", "mem:b"}) {
        auto volume = r.disks.open({path});
        const std::string expected = r.outcome->done ? "mem:t" : "mem:a";
        if (volume) {
          REQUIRE(r.path_of_first(*volume.value()) == expected);
          REQUIRE(volume.value()->superblock().generation == Generation(4));
          r.check_data(*volume.value());
        } else {
          REQUIRE(path != expected);
          REQUIRE(path != "mem:b");
        }
      }
      // A failed swap does not make the source depend on the target.
      if (!r.outcome->done) {
        r.disks.devices.remove("mem:t");
        REQUIRE(r.disks.open({"mem:a"}));
      }
    }
  }
  REQUIRE(not_done > 5);
}

TEST_CASE("the k-th request to the source fails during a swap") {
  bool failed = true;
  for (unsigned k = 1; failed; ++k) {
    REQUIRE(k < 50);
    Replace r;
    r.announce();
    unsigned count = 0;
    failed = false;
    r.disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (request.device->path() != "mem:a" || ++count < k) return ok();
      failed = true;
      return fail();
    });
    auto result = r.swap();
    REQUIRE(r.outcome);
    // Up to the first flush the source is a member; after that it is not needed.
    REQUIRE(result.has_value() == r.outcome->done);
    const bool done = r.outcome->done;
    r.close();
    for (const std::string path : {"mem:a", "mem:t"}) {
      auto volume = r.disks.open({path});
      if (volume) REQUIRE(r.path_of_first(*volume.value()) == (done ? "mem:t" : "mem:a"));
      if (!volume) REQUIRE((path == "mem:a") == done);
    }
  }
}

TEST_CASE("a crash at any step of a swap leaves one member, whichever device is named") {
  // Two histories: the swap succeeds; the target's superblock cannot be read back.
  for (bool readback_fails : {false, true}) {
    Replace r;
    r.announce();
    std::vector<std::unique_ptr<Image>> images;
    bool target_was_read = false;
    r.disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      images.push_back(std::make_unique<Image>(r));
      const bool of_target = request.device->path() == "mem:t" && request.op == IoOp::read;
      if (!of_target || !readback_fails || target_was_read) return ok();
      target_was_read = true;
      return fail();
    });
    REQUIRE(r.swap());
    r.disks.devices.set_hook(nullptr);
    images.push_back(std::make_unique<Image>(r));
    REQUIRE(r.outcome->done == !readback_fails);
    REQUIRE(images.size() > 10);

    unsigned of_source = 0, of_target = 0;
    for (auto& image : images) {
      std::optional<std::string> member;
      for (const std::vector<std::string>& paths : std::vector<std::vector<std::string>>{
               {"mem:b"}, {"mem:a"}, {"mem:t"}, {"mem:a", "mem:b"}, {"mem:b", "mem:t"}}) {
        auto volume = image->disks.open(paths);
        if (!volume) {
          INFO(volume.error().message());
          const bool is_replaced = volume.error() == Errc::replaced_device;
          REQUIRE((is_replaced || volume.error() == Errc::bad_target));
          const std::string refused = is_replaced ? "mem:a" : "mem:t";
          REQUIRE(std::count(paths.begin(), paths.end(), refused) == 1);
          REQUIRE(refused != *member);
          continue;
        }
        if (!member) member = r.path_of_first(*volume.value());
        REQUIRE(r.path_of_first(*volume.value()) == *member);
        r.check_data(*volume.value());
      }
      REQUIRE(member);
      ++(*member == "mem:a" ? of_source : of_target);
    }
    REQUIRE(of_source > 0);
    REQUIRE(of_target > 0);
    REQUIRE(r.path_of_first(*r.volume) == (readback_fails ? "mem:a" : "mem:t"));
  }
}

TEST_CASE("an announced swap whose target is lost") {
  Replace r;
  r.announce();
  r.close();
  auto target = r.disks.devices.disk_pointer("mem:t");
  SECTION("the target is there, unfinished: the source stays") {
    auto volume = r.disks.open({"mem:a"});
    REQUIRE(volume);
    REQUIRE(volume.value()->superblock().pending_swap);
  }
  SECTION("moved: found by hint") {
    r.disks.devices.remove("mem:t");
    r.disks.devices.insert("mem:moved", target);
    Volume::OpenOptions options;
    options.search = false;
    REQUIRE(r.disks.open({"mem:a"}, options).error() == Errc::missing_device);
    options.hints = {"mem:moved"};
    REQUIRE(r.disks.open({"mem:a"}, options));
  }
  SECTION("gone: the error says how to go on, and that works") {
    r.disks.devices.remove("mem:t");
    auto volume = r.disks.open({"mem:a"});
    REQUIRE(volume.error() == Errc::missing_device);
    for (const std::string text : {"mem:t", "-o device=PATH", "-o abandon-replace"}) {
      REQUIRE(volume.error().message().find(text) != std::string::npos);
    }
    REQUIRE(volume.error().message().find(r.target.entry.uuid.to_string()) != std::string::npos);
    Volume::OpenOptions options;
    options.abandon_swap = true;
    {
      auto abandoned = r.disks.open({"mem:a"}, options).value();
      r.check_data(*abandoned);
      REQUIRE(commit(*abandoned, 4));
    }
    REQUIRE(r.disks.open({"mem:a"}));
  }
}

TEST_CASE("a source whose superblock does not say that it was replaced is still recognized") {
  // The source's last writes fail: its superblock still says member, with the swap announced.
  Replace r;
  r.announce();
  auto stale = r.disks.devices.disk("mem:a").clone();
  REQUIRE(r.swap());
  REQUIRE(commit(*r.volume, 5));
  r.close();
  r.disks.devices.insert("mem:a", stale);
  for (const std::vector<std::string>& paths : std::vector<std::vector<std::string>>{
           {"mem:a"}, {"mem:t"}, {"mem:a", "mem:t"}, {"mem:t", "mem:a"}}) {
    auto volume = r.disks.open(paths);
    REQUIRE(volume);
    REQUIRE(r.path_of_first(*volume.value()) == "mem:t");
    REQUIRE(volume.value()->superblock().generation == Generation(5));
  }
  // With an older superblock, from before the announcement, it is refused beside the new device.
  Superblock old =
      read_superblock(r.disks.devices.engine(), *r.disks.devices.open("mem:a", {}).value()).value();
  old.pending_swap.reset();
  REQUIRE(
      write_superblock(r.disks.devices.engine(), *r.disks.devices.open("mem:a", {}).value(), old));
  auto both = r.disks.open({"mem:a", "mem:t"});
  REQUIRE(both.error() == Errc::replaced_device);
  REQUIRE(both.error().message().find("mem:a was replaced by") != std::string::npos);
}

TEST_CASE("the window: a writer that fails while it is open waits for the outcome") {
  ScriptedRuntime runtime;
  SwapWindow window(runtime);
  auto target = std::make_shared<NoDevice>(64 * kMiB);
  auto other = std::make_shared<NoDevice>(64 * kMiB);

  SECTION("no window: the source is the member, and open() waits for the end of a report") {
    REQUIRE(!window.target_is_member(target.get(), true));
    bool waited = false;
    runtime.on_wait = [&] {
      waited = true;
      window.end_report();
    };
    window.open(target);
    REQUIRE(waited);
    REQUIRE(window.close_done());
    REQUIRE(window.target_is_member(target.get(), true));
    REQUIRE(window.target_is_member(target.get(), false));
    REQUIRE(!window.target_is_member(other.get(), false));
  }
  SECTION("a failed write to the target makes the swap fail") {
    window.open(target);
    runtime.on_wait = [&] {
      REQUIRE(!window.close_done());
      window.close_failed();
    };
    REQUIRE(!window.target_is_member(target.get(), true));
    window.end_report();
    REQUIRE(!window.target_is_member(target.get(), false));
  }
  SECTION("a failed write to the source is ignored if the swap is done") {
    window.open(target);
    runtime.on_wait = [&] { REQUIRE(window.close_done()); };
    REQUIRE(window.target_is_member(target.get(), false));
  }
  SECTION("disarming spoils it") {
    window.spoil();  // nothing is open: no effect on the next
    window.open(target);
    window.spoil();
    REQUIRE(!window.close_done());
    window.close_failed();
    window.open(target);
    REQUIRE(window.close_done());
  }
}

TEST_CASE("a write to the target that fails within the window makes the swap fail, not the write") {
  Replace r;
  r.announce();
  std::unique_ptr<Task> writer;
  Result<void> written = ok();
  bool writer_failed = false;
  auto guard = r.volume->acquire_map();
  auto bytes = pattern(2);
  const LogicalWrite write{r.new_data, bytes.span()};
  const auto place = guard.map().for_read({r.new_data, 65536}, 0).value().front();
  REQUIRE(place.devid == DeviceId(1));
  r.disks.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (request.device->path() != "mem:t" || request.op != IoOp::write) return ok();
    if (request.offset == place.offset.value) {
      writer_failed = true;
      return fail();
    }
    if (!writer && request.offset == kSuperblockOffsets[1]) {
      writer = r.disks.runtime.spawn("writer", [&] {
        written = r.volume->write(guard, {&write, 1});
      });
      while (r.disks.runtime.waiting() == 0) std::this_thread::yield();  // in the window
    }
    return ok();
  });
  REQUIRE(r.swap());
  writer->join();
  REQUIRE(writer_failed);
  REQUIRE(!r.outcome->done);
  REQUIRE(r.outcome->reason == "a write to the target failed");
  REQUIRE(written);
  REQUIRE(r.engine.faults == 1);
  guard.release();
  r.close();
  REQUIRE(r.path_of_first(*r.disks.open({"mem:a"}).value()) == "mem:a");
  REQUIRE(r.disks.open({"mem:t"}).error() == Errc::bad_target);
}
