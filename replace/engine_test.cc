// SPDX-License-Identifier: MIT
// Tests of the engine: start, finish, refusals, cancel, suspend, resume, mounts between these.
#include "replace/engine.h"

#include <condition_variable>

#include "alloc/base/checksum.h"
#include "alloc/disk/superblock.h"
#include "replace/engine_test_util.h"
#include "replace/record.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace moltfs::replace::test;
using alloc::IoOp;
using alloc::IoRequest;

namespace {

constexpr uint64_t kSize = 96 * kMiB;

struct Bench : Machine {
  explicit Bench(uint64_t target_size = kSize)
      : Machine({{"mem:a", kSize}, {"mem:b", target_size}}) {
    make("mem:a");
    populate(8 * kMiB, random);
  }
  std::mt19937 random{17};
};

bool is_on(const IoRequest& request, const std::string& path) {
  return request.device->path() == path;
}

/// Lets requests pass until closed. When it is opened, requests that wait go on.
class Gate {
 public:
  void close() {
    std::lock_guard lock(mutex_);
    open_ = false;
  }
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    --waiting_;
  }
  void await(unsigned waiting) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_ >= waiting; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = true;
  unsigned waiting_ = 0;
};

/// Stops the copier before it lists a window.
struct HeldCopier {
  explicit HeldCopier(FakeHost& host) {
    gate.close();
    host.on_list = [gate = gate_](LogicalRange) { gate->pass(); };
  }
  ~HeldCopier() { gate.open(); }

 private:
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();

 public:
  Gate& gate = *gate_;
};

std::optional<alloc::Superblock> superblock_on(Machine& machine, const std::string& path) {
  alloc::DeviceOpener::Options options;
  options.read_only = true;
  options.exclusive = false;
  auto device = machine.devices.open(path, options).value();
  auto superblock = alloc::read_superblock(machine.devices, *device);
  if (!superblock) return std::nullopt;
  return superblock.value();
}

bool mentions(const Error& error, const std::string& text) {
  INFO(error.message());
  return error.message().find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("a replace from start to finish") {
  Bench m;
  const Generation before = m.host->running();
  REQUIRE(m.engine->start({"1", "mem:b"}));
  const Status done = m.wait();
  REQUIRE(done.state == State::finished);
  REQUIRE(done.source.path == "mem:a");
  REQUIRE(done.target.path == "mem:b");
  REQUIRE(done.start_generation == before + 1);  // G0: the commit of arming closed `before`
  REQUIRE(done.bytes_copied > 4 * kMiB);
  REQUIRE(done.bytes_total == done.bytes_copied);
  REQUIRE(done.bytes_recopied == 0);
  REQUIRE(done.started > 0);
  REQUIRE(done.ended >= done.started);
  REQUIRE(done.reason.empty());
  REQUIRE(m.volume->devices().front().uuid == done.target.uuid);
  REQUIRE(m.content_is_right());
  // The source is closed, and its superblock says that it was replaced.
  REQUIRE(m.devices.open("mem:a", {}));
  const auto old = superblock_on(m, "mem:a");
  REQUIRE(old->role == alloc::DeviceRole::replaced);
  REQUIRE(old->successor->uuid == done.target.uuid);
  // The last result stays.
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
  REQUIRE(m.engine->status().state == State::finished);
  REQUIRE(m.engine->status().bytes_copied == done.bytes_copied);
}

TEST_CASE("an empty volume, a larger target, and back again") {
  Machine m({{"mem:a", 64 * kMiB}, {"mem:b", 128 * kMiB}});
  m.make("mem:a");
  REQUIRE(m.engine->start({"mem:a", "mem:b"}));
  REQUIRE(m.wait().state == State::finished);
  REQUIRE(m.volume->devices().front().size_bytes == 128 * kMiB);
  REQUIRE(m.volume->space().usage().device_bytes > 100 * kMiB);  // can be used at once
  // Back to a device that was replaced, without --force.
  const std::string uuid = m.volume->devices().front().uuid.to_string();
  REQUIRE(m.engine->start({uuid, "mem:a"}));
  REQUIRE(m.wait().state == State::finished);
  REQUIRE(m.target_alone_is_right("mem:b", "mem:a"));
}

TEST_CASE("a smaller target is accepted if the chunks fit") {
  Bench m(64 * kMiB);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  REQUIRE(m.wait().state == State::finished);
  REQUIRE(m.volume->devices().front().size_bytes == 64 * kMiB);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("bad targets are refused with a sentence, and nothing has changed") {
  Bench m;
  m.populate(24 * kMiB, m.random);
  m.devices.add("mem:small", 16 * kMiB);
  m.devices.add("mem:protected", kSize);
  m.devices.write_protect("mem:protected", true);
  m.devices.add("mem:used", kSize);
  auto user = m.devices.open("mem:used", {}).value();
  Machine other(std::map<std::string, uint64_t>{});
  m.devices.add("mem:other", kSize);
  {
    auto device = m.devices.open("mem:other", {}).value();
    auto superblock = *superblock_on(m, "mem:a");
    superblock.label = "holiday";
    superblock.volume.bytes[0] ^= 1;
    REQUIRE(alloc::write_superblock(m.devices, *device, superblock));
  }
  m.devices.add("mem:copy", kSize);
  REQUIRE(alloc::write_superblock(m.devices, *m.devices.open("mem:copy", {}).value(),
                                  *superblock_on(m, "mem:a")));
  const std::string too_long = "mem:" + std::string(alloc::kMaxPathBytes, 'x');
  m.devices.add(too_long, kSize);
  std::map<std::string, std::shared_ptr<moltfs::test::MemoryDisk>> before;
  for (const auto& path : m.devices.candidates()) {
    before[path] = m.devices.disk_pointer(path)->clone();
  }
  auto refused = [&](const std::string& source, const std::string& target, Errc code,
                     const std::string& text) {
    auto started = m.engine->start({source, target});
    REQUIRE(!started);
    INFO(started.error().message());
    REQUIRE(started.error() == code);
    REQUIRE(mentions(started.error(), text));
  };
  refused("1", "mem:small", Errc::bad_target,
          "target holds 16.0 MiB, the allocated chunks of devid 1 need");
  refused("1", "mem:absent", Errc::not_found, "mem:absent");
  refused("1", "mem:protected", Errc::device_read_only, "mem:protected");
  refused("1", "mem:used", Errc::device_in_use, "mem:used");
  refused("1", "mem:a", Errc::bad_target, "the source itself");
  refused("1", "mem:other", Errc::foreign_signature, "\"holiday\"");
  refused("1", "mem:copy", Errc::bad_target, "has the uuid of devid 1");
  REQUIRE(m.engine->start({"1", "mem:copy", true}).error() == Errc::bad_target);
  refused("1", too_long, Errc::invalid_argument, "the path has 516 bytes");
  refused("9", "mem:b", Errc::not_found, "no devid 9");
  refused("mem:b", "mem:b", Errc::not_found, "mem:b: is not a device of this volume");
  REQUIRE(m.engine->status().state == State::none);
  for (const auto& [path, disk] : before) {
    INFO(path);
    REQUIRE(disk->same_content(m.devices.disk(path)));
  }
  REQUIRE(m.engine->cancel().error() == Errc::no_replace);
  REQUIRE(m.engine->resume().error() == Errc::no_replace);
  // With force the other volume is overwritten.
  REQUIRE(m.engine->start({"1", "mem:other", true}));
  REQUIRE(m.wait().state == State::finished);
}

TEST_CASE("another member is refused as a target") {
  Machine m({{"mem:a", kSize}, {"mem:b", kSize}});
  m.volume = alloc::Volume::create(
                 m.runtime, m.devices,
                 {m.devices.open("mem:a", {}).value(), m.devices.open("mem:b", {}).value()}, {})
                 .value();
  m.host = std::make_unique<FakeHost>(*m.volume, m.history);
  m.background = std::make_unique<Background>(m.runtime, 2);
  m.engine = std::make_unique<Engine>(*m.volume, *m.host, *m.background, m.options);
  m.host->commit().value();
  auto started = m.engine->start({"1", "mem:b"});
  REQUIRE(started.error() == Errc::bad_target);
  REQUIRE(mentions(started.error(), "already (devid 2)"));
}

TEST_CASE("a second start is refused and names the first") {
  Bench m;
  m.devices.add("mem:c", kSize);
  HeldCopier held(*m.host);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  auto second = m.engine->start({"1", "mem:c"});
  REQUIRE(second.error() == Errc::replace_running);
  REQUIRE(mentions(second.error(), "devid 1 (mem:a) by mem:b is copying"));
  REQUIRE(m.engine->resume().error() == Errc::no_replace);
  held.gate.open();
  REQUIRE(m.wait().state == State::finished);
}

TEST_CASE("R1, R2, R3, R6: a replace under load; nothing is lost and nothing is copied twice") {
  Bench m;
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> to_target{0};
  m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    const bool super = request.offset < alloc::kFirstChunkOffset;
    if (is_on(request, "mem:b") && request.op == IoOp::write && !super) to_target += request.length;
    return ok();
  });
  auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    while (!stop) {
      if (random() % 3 != 0) (void)m.host->write((1 + random() % 16) * kBlockSize, random);
      m.host->remove(random);
      if (random() % 8 == 0) (void)m.host->add_node(random);
      if (random() % 20 == 0) (void)m.host->commit();
    }
  };
  std::vector<std::thread> writers;
  for (unsigned i = 0; i < 3; ++i) writers.emplace_back(work, i);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  const Status done = m.wait();
  stop = true;
  for (auto& writer : writers) writer.join();
  REQUIRE(done.state == State::finished);
  // After the swap writes to mem:b are those of a member: count what was before.
  REQUIRE(done.bytes_copied + done.bytes_duplicated <= to_target);
  REQUIRE(done.bytes_recopied == 0);
  m.host->commit().value();  // nodes are written by a commit
  REQUIRE(m.content_is_right());
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("R3: what is born under duplication is skipped, byte for byte") {
  Bench m;
  std::mutex mutex;
  std::map<uint64_t, unsigned> written;  // blocks of mem:b
  m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (!is_on(request, "mem:b") || request.op != IoOp::write) return ok();
    std::lock_guard lock(mutex);
    for (uint64_t o = 0; o < request.length; o += kBlockSize) ++written[request.offset + o];
    return ok();
  });
  HeldCopier held(*m.host);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  held.gate.await(1);
  uint64_t added = 0;
  for (int i = 0; i < 50; ++i) {
    const LogicalOffset at = m.host->write(8 * kBlockSize, m.random).value();
    added += m.host->state().extents.at(at).length;
  }
  // Only where the target needs something; gaps between may be written or not.
  std::set<uint64_t> needed;
  const auto map = m.volume->mapper().current();
  auto need = [&](LogicalOffset at, uint64_t length) {
    const auto segments = map->for_write({at, length}).value();
    for (const auto& segment : segments) {
      for (uint64_t o = 0; o < segment.length; o += kBlockSize) {
        needed.insert(segment.offset.value + o);
      }
    }
  };
  for (const auto& [at, extent] : m.host->state().extents) need(at, extent.length);
  for (const auto& [at, node] : m.host->state().nodes) need(at, kNodeSize);
  held.gate.open();
  const Status done = m.wait();
  REQUIRE(done.state == State::finished);
  REQUIRE(done.bytes_duplicated >= added);
  std::lock_guard lock(mutex);
  for (const auto& [at, times] : written) {
    INFO("block at " << at);
    if (at < alloc::kFirstChunkOffset) continue;
    REQUIRE(times == 1);
    REQUIRE(needed.count(at) == 1);
  }
  for (uint64_t at : needed) REQUIRE(written.count(at) == 1);
}

TEST_CASE("R4: nothing is allocated within a window while it is copied") {
  Bench m;
  std::atomic<unsigned> listed{0}, overlaps{0};
  m.host->on_list = [&](LogicalRange range) {
    ++listed;
    // What is freed here is the lowest free space. Without the freeze it would be reused at once.
    std::mt19937 random(3);
    for (int i = 0; i < 8; ++i) {
      auto at = m.host->write(kBlockSize, random);
      if (!at) continue;
      if (range.overlaps({at.value(), kBlockSize})) ++overlaps;
    }
  };
  REQUIRE(m.engine->start({"1", "mem:b"}));
  REQUIRE(m.wait().state == State::finished);
  REQUIRE(listed > 0);
  REQUIRE(overlaps == 0);
  REQUIRE(m.content_is_right());
}

TEST_CASE("chunks are removed while the copier works") {
  Bench m;
  HeldCopier held(*m.host);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  held.gate.await(1);
  m.host->remove_all();
  m.host->commit().value();
  m.host->commit().value();
  for (int i = 0; i < 40; ++i) m.host->write(256 * 1024, m.random).value();
  held.gate.open();
  const Status done = m.wait();
  REQUIRE(done.state == State::finished);
  REQUIRE(done.bytes_copied < 2 * kMiB);  // nodes, and no more than windows that were listed
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("cancel while copying") {
  Bench m;
  {
    HeldCopier held(*m.host);
    REQUIRE(m.engine->start({"1", "mem:b"}));
    held.gate.await(1);
    bool cancelled = false;
    std::thread canceller([&] { cancelled = m.engine->cancel().has_value(); });
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    held.gate.open();
    canceller.join();
    REQUIRE(cancelled);
  }
  REQUIRE(m.engine->status().state == State::cancelled);
  REQUIRE(!superblock_on(m, "mem:b"));
  REQUIRE(m.devices.open("mem:b", {}));  // it was closed
  REQUIRE(m.engine->cancel().error() == Errc::no_replace);
  REQUIRE(m.content_is_right());
  m.unmount();
  m.devices.remove("mem:b");
  REQUIRE(m.mount("mem:a"));
  REQUIRE(m.engine->status().state == State::cancelled);
  REQUIRE(m.content_is_right());
  m.devices.add("mem:b", kSize);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  REQUIRE(m.wait().state == State::finished);
}

TEST_CASE("R8: a target that fails suspends the replace; resume copies the gap") {
  Bench m;
  std::atomic<bool> broken{false};
  m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (broken && is_on(request, "mem:b")) return Error(Errc::io_error);
    return ok();
  });
  HeldCopier held(*m.host);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  for (int i = 0; i < 5; ++i) m.host->write(64 * 1024, m.random).value();
  m.host->commit().value();
  broken = true;
  REQUIRE(m.host->write(64 * 1024, m.random));            // the user sees nothing
  REQUIRE(!m.volume->mapper().current()->duplication());  // at once
  held.gate.open();
  Status status = m.wait();
  REQUIRE(status.state == State::suspended);
  REQUIRE(status.errors.target_write + status.errors.target_flush > 0);
  REQUIRE(status.reason.find("mem:b") != std::string::npos);
  // The target is closed, and starting another replace is refused.
  REQUIRE(m.devices.open("mem:b", {}));
  REQUIRE(m.engine->start({"1", "mem:b"}).error() == Errc::replace_running);
  for (int i = 0; i < 20; ++i) m.host->write(64 * 1024, m.random).value();  // the gap
  m.host->commit().value();
  REQUIRE(!m.engine->resume());  // still broken
  REQUIRE(m.engine->status().state == State::suspended);
  broken = false;
  REQUIRE(m.engine->resume());
  status = m.wait();
  REQUIRE(status.state == State::finished);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("cancel of a suspended replace, with the target dead or back") {
  const bool dead = GENERATE(true, false);
  Bench m;
  std::atomic<bool> broken{false};
  m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (broken && is_on(request, "mem:b")) return Error(Errc::device_gone);
    return ok();
  });
  HeldCopier held(*m.host);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  broken = true;
  REQUIRE(m.host->write(64 * 1024, m.random));
  held.gate.open();
  REQUIRE(m.wait().state == State::suspended);
  broken = dead;
  REQUIRE(m.engine->cancel());
  REQUIRE(m.engine->status().state == State::cancelled);
  broken = false;
  REQUIRE(superblock_on(m, "mem:b").has_value() == dead);
  REQUIRE(m.content_is_right());
}

TEST_CASE("an orderly unmount is resumed at the next mount, and nothing is copied twice") {
  Bench m;
  Gate gate;
  std::atomic<int> listed{0};
  m.host->on_list = [&](LogicalRange) {
    if (++listed > 4) gate.pass();
  };
  gate.close();
  REQUIRE(m.engine->start({"1", "mem:b"}));
  gate.await(1);
  std::thread opener([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    gate.open();
  });
  m.unmount();
  opener.join();
  REQUIRE(m.mount("mem:a"));
  Status status = m.engine->status();
  REQUIRE(status.state == State::copying);
  REQUIRE(status.cursor_left > PhysicalOffset());
  REQUIRE(status.bytes_copied > 0);
  const uint64_t before = status.bytes_copied;
  // Duplication is on before anything is written.
  m.host->write(64 * 1024, m.random).value();
  m.engine->run();
  status = m.wait();
  REQUIRE(status.state == State::finished);
  REQUIRE(status.bytes_recopied == 0);
  REQUIRE(status.bytes_copied > before);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("R7: a crash is resumed; the windows in flight are copied again") {
  Bench m;
  const uint64_t limit = 4 * kMiB;
  m.engine.reset();
  m.options.commit_bytes = kMiB;
  m.options.max_undurable_bytes = limit;
  m.engine = std::make_unique<Engine>(*m.volume, *m.host, *m.background, m.options);
  Gate gate;
  std::atomic<int> listed{0};
  m.host->on_list = [&](LogicalRange) {
    if (++listed > 4) gate.pass();
  };
  gate.close();
  REQUIRE(m.engine->start({"1", "mem:b"}));
  gate.await(1);
  m.host->commit().value();
  m.devices.set_hook([](const IoRequest&) -> Result<void> { return Error(Errc::device_gone); });
  gate.open();
  m.power_off();
  REQUIRE(m.mount("mem:a"));
  REQUIRE(m.engine->status().state == State::copying);
  m.engine->run();
  const Status status = m.wait();
  REQUIRE(status.state == State::finished);
  REQUIRE(status.bytes_recopied <= limit);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("mounts without the target, with a wrong one, with it elsewhere") {
  Bench m;
  {
    HeldCopier held(*m.host);
    REQUIRE(m.engine->start({"1", "mem:b"}));
    held.gate.await(1);
    m.host->commit().value();
    m.devices.set_hook([](const IoRequest&) -> Result<void> { return Error(Errc::device_gone); });
    held.gate.open();
    m.power_off();
  }
  auto disk = m.devices.disk_pointer("mem:b");
  SECTION("missing: suspended, and resumed when it is back") {
    m.devices.remove("mem:b");
    REQUIRE(m.mount("mem:a"));
    m.engine->run();
    Status status = m.engine->status();
    REQUIRE(status.state == State::suspended);
    REQUIRE(status.reason.find("mem:b") != std::string::npos);
    for (int i = 0; i < 10; ++i) m.host->write(64 * 1024, m.random).value();
    m.host->commit().value();
    auto resumed = m.engine->resume();
    REQUIRE(resumed.error() == Errc::not_found);
    m.unmount();
    REQUIRE(m.mount("mem:a"));  // stays suspended
    REQUIRE(m.engine->status().state == State::suspended);
    m.devices.insert("mem:b", disk);
    REQUIRE(m.engine->resume());
    REQUIRE(m.wait().state == State::finished);
    REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
  }
  SECTION("missing: and cancelled") {
    m.devices.remove("mem:b");
    REQUIRE(m.mount("mem:a"));
    REQUIRE(m.engine->cancel());
    REQUIRE(m.engine->status().state == State::cancelled);
  }
  SECTION("another device in its place is not touched") {
    auto& blank = m.devices.add("mem:b", kSize);
    REQUIRE(m.mount("mem:a"));
    REQUIRE(m.engine->status().state == State::suspended);
    REQUIRE(blank.stored_bytes() == 0);
    REQUIRE(m.engine->cancel());
    REQUIRE(blank.stored_bytes() == 0);
  }
  SECTION("a target of another replace is not taken") {
    auto device = m.devices.open("mem:b", {}).value();
    auto superblock = *superblock_on(m, "mem:b");
    superblock.device.bytes[3] ^= 1;
    REQUIRE(alloc::write_superblock(m.devices, *device, superblock));
    device.reset();
    REQUIRE(m.mount("mem:a"));
    REQUIRE(m.engine->status().state == State::suspended);
  }
  SECTION("under another name: found by a hint, or by looking around") {
    m.devices.remove("mem:b");
    m.devices.insert("mem:elsewhere", disk);
    REQUIRE(m.mount(
        "mem:a", GENERATE(std::vector<std::string>{}, std::vector<std::string>{"mem:elsewhere"})));
    REQUIRE(m.engine->status().state == State::copying);
    REQUIRE(m.engine->status().target.path == "mem:elsewhere");
    m.engine->run();
    REQUIRE(m.wait().state == State::finished);
    REQUIRE(m.target_alone_is_right("mem:a", "mem:elsewhere"));
  }
  SECTION("a read-only mount arms nothing") {
    auto before = disk->clone();
    REQUIRE(m.mount("mem:a", {}, true));
    REQUIRE(m.engine->status().state == State::suspended);
    m.engine->run();
    REQUIRE(m.engine->cancel().error() == Errc::read_only);
    REQUIRE(m.engine->resume().error() == Errc::read_only);
    m.power_off();
    REQUIRE(before->same_content(*disk));
    REQUIRE(m.mount("mem:a"));
    REQUIRE(m.engine->status().state == State::copying);
  }
}

namespace {

/// A volume on mem:a, and ways to make parts of it unreadable.
struct Damage : Bench {
  Damage() : state(host->state()), map(volume->mapper().current()) {}
  PhysicalOffset place(LogicalOffset at, unsigned copy = 0) {
    return map->for_read({at, kBlockSize}, copy).value()[0].offset;
  }
  PhysicalOffset rot(LogicalOffset at, unsigned copy = 0) {
    devices.disk("mem:a").corrupt(place(at, copy).value + 100, 8);
    return place(at, copy);
  }
  /// Reads of the first block of the first extent fail as long as `bad`.
  void fail_reads() {
    const uint64_t at = place(state.extents.begin()->first).value;
    devices.set_hook([this, at](const IoRequest& request) -> Result<void> {
      const bool hits = is_on(request, "mem:a") && request.op == IoOp::read &&
                        request.offset <= at && at < request.offset + request.length;
      if (!hits || !bad) return ok();
      ++tries;
      return Error(Errc::io_error);
    });
  }
  void mount_again() {
    map.reset();
    unmount();
    REQUIRE(mount("mem:a"));
  }
  const FakeHost::State state;
  std::shared_ptr<const alloc::Map> map;
  std::atomic<bool> bad{true};
  std::atomic<unsigned> tries{0};
};

}  // namespace

TEST_CASE("rot of a node is corrected from the other copy") {
  Damage m;
  m.rot(m.state.nodes.begin()->first, GENERATE(0u, 1u));
  REQUIRE(m.engine->start({"1", "mem:b"}));
  const Status done = m.wait();
  REQUIRE(done.state == State::finished);
  REQUIRE(done.errors.read_corrected == 1);
  REQUIRE(done.errors.read_uncorrectable == 0);
  REQUIRE(m.engine->unreadable(10).value().empty());
  REQUIRE(m.content_is_right());
}

TEST_CASE("an unreadable block stops the replace before the swap, until its loss is accepted") {
  Damage m;
  const LogicalOffset extent = m.state.extents.begin()->first;
  const auto at = m.rot(extent);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  Status status = m.wait();
  REQUIRE(status.state == State::suspended);
  REQUIRE(status.errors.read_uncorrectable == 1);
  REQUIRE(status.reason ==
          "1 block of the source cannot be read; first unreadable block: /file at 0");
  auto places = m.engine->unreadable(10).value();
  REQUIRE(places.size() == 1);
  REQUIRE(places[0].where == "/file at 0");
  REQUIRE(places[0].bytes == kBlockSize);
  REQUIRE(superblock_on(m, "mem:a")->role == alloc::DeviceRole::member);
  const bool remount = GENERATE(false, true);
  if (remount) {
    m.mount_again();
    REQUIRE(m.engine->status().errors.read_uncorrectable == 1);
    REQUIRE(m.engine->unreadable(10).value().size() == 1);
  }
  REQUIRE(m.engine->resume());
  REQUIRE(m.wait().state == State::suspended);
  REQUIRE(m.engine->resume(true));
  status = m.wait();
  REQUIRE(status.state == State::finished);
  REQUIRE(status.errors.read_uncorrectable == 1);
  REQUIRE(status.reason == "first unreadable block: /file at 0");
  REQUIRE(m.engine->unreadable(10).value().size() == 1);
  std::vector<std::byte> block(kBlockSize);
  m.devices.disk("mem:b").read(at.value, block);
  REQUIRE(block == std::vector<std::byte>(kBlockSize));  // not written
  m.host->remove_at(extent);
  REQUIRE(m.content_is_right());
  // The source is kept: it can be read, and nothing else.
  const auto state_at_swap = m.history.rbegin()->second;
  m.map.reset();
  m.unmount();
  auto refused = m.mount("mem:a");
  REQUIRE(refused.error() == Errc::replaced_device);
  REQUIRE(mentions(refused.error(), "read-only"));
  REQUIRE(m.mount("mem:a", {}, true));
  REQUIRE(m.volume->devices().front().path == "mem:a");
  REQUIRE(m.engine->status().state == State::none);
  const auto guard = m.volume->acquire_map();
  const auto other = std::next(m.state.extents.begin());
  AlignedBuffer bytes(kBlockSize);
  REQUIRE(m.volume->read(guard, other->first, bytes.span(), 0));
  REQUIRE(checksum_of(bytes.span()) == other->second.checksums[0]);
}

TEST_CASE("a source with lost blocks is no target without --force") {
  Damage m;
  m.rot(m.state.extents.begin()->first);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  REQUIRE(m.wait().state == State::suspended);
  REQUIRE(m.engine->resume(true));
  REQUIRE(m.wait().state == State::finished);
  m.host->remove_at(m.state.extents.begin()->first);
  m.map.reset();
  auto back = m.engine->start({"1", "mem:a"});
  REQUIRE(back.error() == Errc::foreign_signature);
  REQUIRE(mentions(back.error(), "no other device has"));
  REQUIRE(m.engine->start({"1", "mem:a", true}));
  REQUIRE(m.wait().state == State::finished);
}

TEST_CASE("what cannot be read for a while is read again") {
  Damage m;
  m.fail_reads();
  SECTION("in one of the passes after the copy") {
    m.options.retry_pauses = {std::chrono::milliseconds(1), std::chrono::milliseconds(40)};
    m.engine.reset();
    m.engine = std::make_unique<Engine>(*m.volume, *m.host, *m.background, m.options);
    REQUIRE(m.engine->start({"1", "mem:b"}));
    while (m.tries < 3) std::this_thread::sleep_for(std::chrono::microseconds(100));
    m.bad = false;
  }
  SECTION("when the replace is resumed") {
    REQUIRE(m.engine->start({"1", "mem:b"}));
    REQUIRE(m.wait().state == State::suspended);
    REQUIRE(m.tries == 6);  // the copy and two passes, each with the whole run and the block alone
    m.bad = false;
    if (GENERATE(false, true)) m.mount_again();
    for (int i = 0; i < 20; ++i) m.host->write(64 * 1024, m.random).value();
    REQUIRE(m.engine->resume());
  }
  const Status done = m.wait();
  INFO(done.reason);
  REQUIRE(done.state == State::finished);
  REQUIRE(done.errors.read_uncorrectable == 0);
  REQUIRE(done.reason.empty());
  REQUIRE(superblock_on(m, "mem:a")->compatible_features == 0);
  REQUIRE(m.content_is_right());
  m.map.reset();
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("what cannot be read and is deleted is not missed") {
  Damage m;
  m.rot(m.state.extents.begin()->first);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  REQUIRE(m.wait().state == State::suspended);
  m.host->remove_at(m.state.extents.begin()->first);
  REQUIRE(m.engine->unreadable(10).value().empty());
  REQUIRE(m.engine->resume());
  const Status done = m.wait();
  REQUIRE(done.state == State::finished);
  REQUIRE(done.errors.read_uncorrectable == 0);
  m.map.reset();
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("a node that no copy has is unreadable, too") {
  Damage m;
  m.rot(m.state.nodes.begin()->first, 0);
  m.rot(m.state.nodes.begin()->first, 1);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  const Status status = m.wait();
  REQUIRE(status.state == State::suspended);
  REQUIRE(status.errors.read_uncorrectable == 2);
  const auto places = m.engine->unreadable(10).value();
  REQUIRE(places.size() == 2);
  REQUIRE(places[0].where == "a node");
  REQUIRE(m.engine->cancel());
  REQUIRE(m.engine->status().state == State::cancelled);
}

TEST_CASE(
    "a crash after unreadable blocks were met: the cursor has passed them, they are not lost") {
  Damage m;
  m.engine.reset();
  m.options.commit_bytes = kMiB;
  m.engine = std::make_unique<Engine>(*m.volume, *m.host, *m.background, m.options);
  m.fail_reads();
  Gate gate;
  std::atomic<int> listed{0};
  m.host->on_list = [&](LogicalRange) {
    if (++listed > 6) gate.pass();
  };
  gate.close();
  REQUIRE(m.engine->start({"1", "mem:b"}));
  gate.await(1);
  while (m.engine->status().errors.read_uncorrectable == 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  m.host->commit().value();
  REQUIRE(m.engine->status().cursor_left > m.place(m.state.extents.begin()->first));
  m.devices.set_hook([](const IoRequest&) -> Result<void> { return Error(Errc::device_gone); });
  gate.open();
  m.map.reset();
  m.power_off();
  REQUIRE(m.mount("mem:a"));  // the source is healthy again
  REQUIRE(m.engine->status().errors.read_uncorrectable == 1);
  m.engine->run();
  const Status done = m.wait();
  REQUIRE(done.state == State::finished);
  REQUIRE(done.errors.read_uncorrectable == 0);
  REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
}

TEST_CASE("a block that becomes unreadable after others were accepted stops the replace again") {
  Damage m;
  m.rot(m.state.extents.begin()->first);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  REQUIRE(m.wait().state == State::suspended);
  // Written while nothing is duplicated, so the next walk reads it.
  const LogicalOffset late = m.host->write(kBlockSize, m.random).value();
  m.host->commit().value();
  m.map = m.volume->mapper().current();
  m.rot(late);
  REQUIRE(m.engine->resume(true));
  Status status = m.wait();
  REQUIRE(status.state == State::suspended);
  REQUIRE(status.errors.read_uncorrectable == 2);
  REQUIRE(m.engine->resume(true));
  REQUIRE(m.wait().state == State::finished);
}

TEST_CASE("unreadable blocks keep their name when the target fails, too") {
  Damage m;
  m.rot(m.state.extents.begin()->first);
  std::atomic<bool> broken{true};
  m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    const bool late = m.engine && m.engine->status().errors.read_uncorrectable > 0;
    if (broken && late && is_on(request, "mem:b")) return Error(Errc::io_error);
    return ok();
  });
  m.host->on_list = [&](LogicalRange) {};
  REQUIRE(m.engine->start({"1", "mem:b"}));
  Status status = m.wait();
  REQUIRE(status.state == State::suspended);
  REQUIRE(status.reason.find("mem:b failed") != std::string::npos);
  REQUIRE(status.reason.find("first unreadable block: /file at 0") != std::string::npos);
  broken = false;
  if (GENERATE(false, true)) m.mount_again();
  REQUIRE(m.engine->resume());
  REQUIRE(m.wait().state == State::suspended);
  REQUIRE(m.engine->resume(true));
  status = m.wait();
  REQUIRE(status.state == State::finished);
  REQUIRE(status.reason == "first unreadable block: /file at 0");
}

TEST_CASE("a cancel ends the pause before unreadable blocks are read again") {
  Damage m;
  m.rot(m.state.extents.begin()->first);
  m.options.retry_pauses = {std::chrono::seconds(600)};
  m.engine.reset();
  m.engine = std::make_unique<Engine>(*m.volume, *m.host, *m.background, m.options);
  REQUIRE(m.engine->start({"1", "mem:b"}));
  while (m.engine->status().errors.read_uncorrectable == 0) {
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  if (GENERATE(false, true)) {
    REQUIRE(m.engine->cancel());
    REQUIRE(m.engine->status().state == State::cancelled);
  } else {
    m.mount_again();
    REQUIRE(m.engine->status().state == State::copying);
  }
}

TEST_CASE("if the filesystem cannot list or cannot commit, the replace is suspended") {
  Bench m;
  SECTION("listing") {
    m.host->fail_listing = true;
    REQUIRE(m.engine->start({"1", "mem:b"}));
    const Status status = m.wait();
    REQUIRE(status.state == State::suspended);
    REQUIRE(status.reason.find("cannot be copied") != std::string::npos);
    m.host->fail_listing = false;
    REQUIRE(m.engine->resume());
    REQUIRE(m.wait().state == State::finished);
    REQUIRE(m.target_alone_is_right("mem:a", "mem:b"));
  }
  SECTION("the arming commit") {
    m.host->fail_commits = true;
    auto started = m.engine->start({"1", "mem:b"});
    REQUIRE(mentions(started.error(), "made to fail"));
    m.host->fail_commits = false;
    REQUIRE(m.engine->status().state == State::failed);
    REQUIRE(!superblock_on(m, "mem:b"));
    REQUIRE(!m.volume->mapper().current()->duplication());
  }
  SECTION("a later one") {
    {
      HeldCopier held(*m.host);
      REQUIRE(m.engine->start({"1", "mem:b"}));
      held.gate.await(1);
      m.host->fail_commits = true;
    }
    REQUIRE(m.wait().state == State::suspended);
    REQUIRE(!m.volume->mapper().current()->duplication());
  }
}

TEST_CASE("status while it runs") {
  Bench m;
  Gate gate;
  std::atomic<int> listed{0};
  m.host->on_list = [&](LogicalRange) {
    if (++listed > 3) gate.pass();
  };
  gate.close();
  REQUIRE(m.engine->start({"1", "mem:b"}));
  gate.await(3);
  const Status status = m.engine->status();
  REQUIRE(status.state == State::copying);
  REQUIRE(status.bytes_total >= status.bytes_copied);
  REQUIRE(status.bytes_total < 12 * kMiB);  // of what is to be copied, not of the device
  REQUIRE(fraction_done(status) > 0);
  REQUIRE(fraction_done(status) < 1);
  REQUIRE(status.rate > 0);
  REQUIRE(status.eta_seconds.has_value());
  REQUIRE(status.cursor_left < PhysicalOffset(kSize));
  gate.open();
  REQUIRE(m.wait().state == State::finished);
}
