// SPDX-License-Identifier: MIT
// Tests of devices that are out: one that is absent is replaced from other copies, and one that
// comes back gets what it missed and nothing else.
#include <atomic>
#include <set>
#include <thread>

#include "alloc/disk/superblock.h"
#include "replace/engine.h"
#include "replace/engine_test_util.h"
#include "replace/record.h"
#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;
using namespace moltfs::replace::test;
using alloc::IoOp;
using alloc::IoRequest;

namespace {

constexpr uint64_t kSize = 64 * kMiB;

/// A mirror of mem:a (devid 1) and mem:b (devid 2), and a spare device mem:c.
struct Bench : Machine {
  Bench() : Machine({{"mem:a", kSize}, {"mem:b", kSize}, {"mem:c", kSize}}) {
    make_mirror({"mem:a", "mem:b"});
    populate(4 * kMiB, random);
  }
  /// Ends the mount and takes `path` away.
  void lose(const std::string& path) {
    unmount();
    lost = devices.disk_pointer(path);
    devices.remove(path);
  }
  void mount_degraded(const std::string& path = "mem:a") {
    degraded = true;
    auto mounted = mount(path);
    if (!mounted) FAIL(mounted.error().message());
    engine->run();
  }
  void write_some(int extents) {
    for (int i = 0; i < extents; ++i) host->write(16 * kBlockSize, random).value();
    for (int i = 0; i < 3; ++i) host->add_node(random).value();
    host->commit().value();
  }
  /// Takes devid 2 out, and then writes some extents.
  void write_without_b(int extents) {
    REQUIRE(engine->offline("2"));
    write_some(extents);
  }
  /// True if `path` alone, without any other device, mounts and has everything.
  bool alone_is_right(const std::string& path) {
    unmount();
    for (const auto& other : devices.candidates()) {
      if (other != path) devices.remove(other);
    }
    degraded = true;
    auto mounted = mount(path);
    if (!mounted) WARN(mounted.error().message());
    return mounted && content_is_right();
  }
  /// Bytes of what was born after `generation`, once.
  uint64_t born_after(Generation generation) const {
    uint64_t bytes = 0;
    const auto state = host->state();
    for (const auto& [at, extent] : state.extents) {
      if (extent.birth > generation) bytes += extent.length;
    }
    for (const auto& [at, node] : state.nodes) {
      if (node.first > generation) bytes += kNodeSize;
    }
    return bytes;
  }
  bool is_out(uint64_t devid) const {
    for (const auto& entry : volume->devices()) {
      if (entry.devid.value == devid) return entry.out.has_value();
    }
    return false;
  }
  alloc::Superblock superblock_on(const std::string& path) {
    alloc::DeviceOpener::Options shared;
    shared.read_only = true;
    shared.exclusive = false;
    return must(alloc::read_superblock(devices, *must(devices.open(path, shared))));
  }

  std::mt19937 random{23};
  std::shared_ptr<moltfs::test::MemoryDisk> lost;
};

bool is_on(const IoRequest& request, const std::string& path) {
  return request.device->path() == path;
}

bool mentions(const Error& error, const std::string& text) {
  INFO(error.message());
  return error.message().find(text) != std::string::npos;
}

/// Programs that write and delete until the end of its life.
class Load {
 public:
  explicit Load(FakeHost& host) : host_(host) {
    for (unsigned seed = 0; seed < 2; ++seed) {
      writers_.emplace_back([this, seed] { work(seed); });
    }
  }
  ~Load() { end(); }
  void end() {
    stop_ = true;
    for (auto& writer : writers_) {
      if (writer.joinable()) writer.join();
    }
  }
  unsigned failures() const { return failures_; }

 private:
  void work(unsigned seed) {
    std::mt19937 random(seed);
    while (!stop_) {
      const auto written = host_.write((1 + random() % 16) * kBlockSize, random);
      if (!written && written.error() != Errc::no_space) ++failures_;
      host_.remove(random);
      if (random() % 8 == 0) (void)host_.add_node(random);
      if (random() % 20 == 0 && !host_.commit()) ++failures_;
    }
  }
  FakeHost& host_;
  std::atomic<bool> stop_{false};
  std::atomic<unsigned> failures_{0};
  std::vector<std::thread> writers_;
};

}  // namespace

// ---- The source is absent

TEST_CASE("a device that is absent is replaced under load, from the other copy") {
  Bench m;
  m.lose("mem:b");
  m.mount_degraded();
  REQUIRE(m.is_out(2));
  Load load(*m.host);
  REQUIRE(m.engine->start({"2", "mem:c"}));
  const Status done = m.wait();
  load.end();
  INFO(done.reason);
  REQUIRE(done.state == State::finished);
  REQUIRE(load.failures() == 0);
  REQUIRE(done.errors.read_corrected == 0);
  REQUIRE(done.errors.read_uncorrectable == 0);
  REQUIRE(done.bytes_copied > kMiB / 4);  // the load has removed the rest
  REQUIRE(!m.is_out(2));
  m.host->commit().value();
  REQUIRE(m.content_is_right());
  REQUIRE(m.alone_is_right("mem:c"));
}

TEST_CASE("a block that no other copy has is a hole, and is given up only if the user says so") {
  Bench m;
  const LogicalOffset at = m.host->write(4 * kBlockSize, m.random).value();
  m.host->commit().value();
  const auto places =
      m.volume->mapper().current()->for_write({at + kBlockSize, kBlockSize}).value();
  m.lose("mem:b");
  for (const auto& place : places) {
    if (place.devid.value != 1) continue;
    std::vector<std::byte> rot(kBlockSize, std::byte{0x55});
    m.devices.disk("mem:a").write(place.offset.value, rot);
  }
  m.mount_degraded();
  REQUIRE(m.engine->start({"2", "mem:c"}));
  Status status = m.wait();
  REQUIRE(status.state == State::suspended);
  REQUIRE(status.errors.read_uncorrectable == 1);
  INFO(status.reason);
  REQUIRE(
      status.reason.find("1 block of devid 2, which is out, cannot be read from another copy") !=
      std::string::npos);
  REQUIRE(status.reason.find("/file at") != std::string::npos);
  REQUIRE(m.engine->unreadable(10).value().size() == 1);
  REQUIRE(m.is_out(2));
  REQUIRE(m.engine->resume(true));
  status = m.wait();
  REQUIRE(status.state == State::finished);
  REQUIRE(!m.is_out(2));
  REQUIRE(!m.content_is_right());  // the block is an error on both copies
  m.host->remove_at(at);
  REQUIRE(m.content_is_right());
}

TEST_CASE("a replace of an absent device goes on after a crash") {
  Bench m;
  m.lose("mem:b");
  m.mount_degraded();
  std::atomic<int> windows{0};
  m.host->on_list = [&](LogicalRange) { ++windows; };
  m.options.windows_in_flight = 1;
  REQUIRE(m.engine->start({"2", "mem:c"}));
  while (windows < 3) std::this_thread::yield();
  m.power_off();
  m.degraded = false;  // the volume knows that the device is out
  REQUIRE(m.mount("mem:a"));
  m.engine->run();
  REQUIRE(m.wait().state == State::finished);
  REQUIRE(m.alone_is_right("mem:c"));
}

TEST_CASE("a source that dies while it is being replaced: programs and the replace go on") {
  Bench m;
  std::atomic<bool> dead{false};
  m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (dead && is_on(request, "mem:b")) return Error(Errc::device_gone);
    return ok();
  });
  std::atomic<int> windows{0};
  m.host->on_list = [&](LogicalRange) {
    if (++windows == 2) dead = true;
  };
  Load load(*m.host);
  REQUIRE(m.engine->start({"2", "mem:c"}));
  const Status done = m.wait();
  load.end();
  INFO(done.reason);
  REQUIRE(done.state == State::finished);
  REQUIRE(load.failures() == 0);
  m.host->commit().value();
  REQUIRE(m.content_is_right());
  REQUIRE(m.alone_is_right("mem:c"));
}

TEST_CASE("in each profile with copies, a device is replaced by a new one and another comes back") {
  struct Pool {
    alloc::Profile profile;
    std::vector<std::string> devices;
  };
  const auto pool = GENERATE(Pool{alloc::Profile::raid1c3, {"mem:1", "mem:2", "mem:3", "mem:4"}},
                             Pool{alloc::Profile::raid1c4, {"mem:1", "mem:2", "mem:3", "mem:4"}},
                             Pool{alloc::Profile::raid10, {"mem:1", "mem:2", "mem:3", "mem:4"}});
  INFO(alloc::name_of(pool.profile));
  std::map<std::string, uint64_t> sizes = {{"mem:new", kSize}};
  for (const auto& path : pool.devices) sizes[path] = kSize;
  Machine m(sizes);
  m.make_mirror(pool.devices, pool.profile);
  std::mt19937 random(41);
  m.populate(6 * kMiB, random);
  const auto is_fine = [&](const Status& status) {
    INFO(status.reason);
    REQUIRE(status.state == State::finished);
    REQUIRE(status.errors.read_uncorrectable == 0);
    REQUIRE(m.content_is_right());
  };
  // With three and four copies, two devices at once.
  const bool two = pool.profile != alloc::Profile::raid10;
  REQUIRE(m.engine->offline("2"));
  if (two) REQUIRE(m.engine->offline("3"));
  for (int i = 0; i < 8; ++i) m.host->write(16 * kBlockSize, random).value();
  m.host->commit().value();
  REQUIRE(m.content_is_right());
  REQUIRE(m.engine->start({"2", "mem:new"}));
  is_fine(m.wait());
  if (!two) REQUIRE(m.engine->offline("3"));
  for (int i = 0; i < 8; ++i) m.host->write(16 * kBlockSize, random).value();
  REQUIRE(m.engine->online({"3"}));
  const Status back = m.wait();
  is_fine(back);
  REQUIRE(back.bytes_skipped > back.bytes_copied);
  // Without all that can be lost now, what is new and what came back have everything.
  m.unmount();
  m.devices.remove("mem:1");
  if (two) m.devices.remove("mem:4");
  m.degraded = true;
  auto mounted = m.mount("mem:3");
  if (!mounted) FAIL(mounted.error().message());
  REQUIRE(m.content_is_right());
}

// ---- A device comes back

TEST_CASE("a device that comes back gets what it missed, byte for byte, and nothing else") {
  const bool remount = GENERATE(false, true);
  Bench m;
  if (remount) {
    m.lose("mem:b");
    m.mount_degraded();
    m.devices.insert("mem:b", m.lost);
  } else {
    REQUIRE(m.engine->offline("mem:b"));
  }
  REQUIRE(m.is_out(2));
  const auto out = *m.volume->devices()[1].out;
  const Uuid uuid = m.volume->devices()[1].uuid;
  m.write_some(12);
  std::mutex mutex;
  std::map<uint64_t, unsigned> written;  // blocks of mem:b
  m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (!is_on(request, "mem:b") || request.op == IoOp::read) return ok();
    REQUIRE(request.op != IoOp::discard);
    std::lock_guard lock(mutex);
    for (uint64_t o = 0; o < request.length; o += kBlockSize) ++written[request.offset + o];
    return ok();
  });
  const uint64_t missed = m.born_after(out.whole_until);
  REQUIRE(m.engine->online({"2"}));
  const Status done = m.wait();
  INFO(done.reason);
  REQUIRE(done.state == State::finished);
  REQUIRE(done.rejoin);
  REQUIRE(done.bytes_copied == missed);
  REQUIRE(done.bytes_skipped > 2 * kMiB);
  REQUIRE(done.bytes_recopied == 0);
  {
    std::lock_guard lock(mutex);
    uint64_t blocks = 0;
    for (const auto& [at, times] : written) {
      if (at < alloc::kFirstChunkOffset) continue;
      REQUIRE(times == 1);
      ++blocks;
    }
    REQUIRE(blocks * kBlockSize == missed);
  }
  REQUIRE(!m.is_out(2));
  REQUIRE(m.volume->devices()[1].uuid == uuid);
  REQUIRE(m.superblock_on("mem:b").role == alloc::DeviceRole::member);
  REQUIRE(m.content_is_right());
  REQUIRE(m.alone_is_right("mem:b"));
}

TEST_CASE("a device comes back under load, twice") {
  Bench m;
  for (int round = 0; round < 2; ++round) {
    Load load(*m.host);
    REQUIRE(m.engine->offline("2"));
    while (m.born_after(m.volume->devices()[1].out->whole_until) < 256 * 1024) {
      std::this_thread::yield();
    }
    const auto online = m.engine->online({"2"});
    if (!online) FAIL(online.error().message());
    const Status done = m.wait();
    load.end();
    INFO(done.reason);
    REQUIRE(done.state == State::finished);
    REQUIRE(load.failures() == 0);
    REQUIRE(done.bytes_skipped > 0);
    m.host->commit().value();
    REQUIRE(m.content_is_right());
  }
  REQUIRE(m.alone_is_right("mem:b"));
}

TEST_CASE("R7: a power cut at any request of a rejoin; the device ends up with everything") {
  unsigned points = 0;
  for (unsigned cut = 1;; cut += 1 + cut / 12) {
    Bench m;
    m.options.windows_in_flight = 1;
    m.options.commit_bytes = 64 * 1024;
    m.write_without_b(4);
    std::atomic<unsigned> requests{0};
    m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
      if (request.op != IoOp::read && ++requests >= cut) return Error(Errc::device_gone);
      return ok();
    });
    const bool armed = m.engine->online({"2"}).has_value();
    if (armed) m.wait();
    const bool is_last = requests < cut;
    m.power_off();
    INFO("cut at request " << cut);
    m.degraded = false;
    auto mounted = m.mount("mem:a");
    if (!mounted) FAIL(mounted.error().message());
    m.engine->run();
    m.wait();
    if (m.is_out(2)) {
      const State state = m.engine->status().state;
      if (state == State::suspended) {
        REQUIRE(m.engine->resume());
      } else {
        const auto online = m.engine->online({"2"});
        if (!online) FAIL(online.error().message());
      }
      REQUIRE(m.wait().state == State::finished);
    }
    m.host->commit().value();
    REQUIRE(m.content_is_right());
    REQUIRE(m.alone_is_right("mem:b"));
    ++points;
    if (is_last) break;
  }
  REQUIRE(points > 10);
}

TEST_CASE("a swap that fails, and then a power cut, do not keep the others from being mounted") {
  unsigned points = 0;
  for (unsigned cut = 1; points < 8; ++cut, ++points) {
    Bench m;
    m.write_without_b(2);
    std::atomic<bool> failed{false};
    std::atomic<unsigned> requests{0};
    // The superblock of the member cannot be read back.
    m.host->on_list = [&](LogicalRange) {
      m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
        if (failed && request.op != IoOp::read && ++requests >= cut)
          return Error(Errc::device_gone);
        const bool super = request.offset == alloc::kSuperblockOffsets[0];
        if (request.op != IoOp::read || !is_on(request, "mem:b") || !super) return ok();
        failed = true;
        return Error(Errc::io_error);
      });
    };
    REQUIRE(m.engine->online({"2"}));
    REQUIRE(m.wait().state == State::suspended);
    REQUIRE(failed);
    m.power_off();
    INFO("cut at request " << cut);
    auto mounted = m.mount("mem:a");
    if (!mounted) FAIL(mounted.error().message());
    m.engine->run();
    m.wait();
    REQUIRE(m.content_is_right());
    if (!m.is_out(2)) continue;
    if (m.engine->status().state == State::suspended && !m.engine->resume()) {
      REQUIRE(m.engine->cancel());
    }
    m.wait();
    if (m.is_out(2)) {
      Engine::OnlineRequest request{"2"};
      request.force = true;
      REQUIRE(m.engine->online(request));
    }
    REQUIRE(m.wait().state == State::finished);
    REQUIRE(m.alone_is_right("mem:b"));
  }
}

TEST_CASE("a device that is not as it was left is refused; by force everything is copied") {
  Bench m;
  const auto old = m.devices.disk("mem:b").clone();
  m.write_some(2);
  m.lose("mem:b");
  std::string why;
  SECTION("put back from an older copy") {
    m.devices.insert("mem:b", old);
    why = "was put back from an older copy";
  }
  SECTION("written to without the others") {
    const auto a = m.devices.disk_pointer("mem:a");
    m.devices.remove("mem:a");
    m.devices.insert("mem:b", m.lost);
    const auto history = m.history;
    m.mount_degraded("mem:b");
    m.write_some(2);
    m.write_some(2);
    m.unmount();
    m.history = history;
    m.lost = m.devices.disk_pointer("mem:b");
    m.devices.remove("mem:b");
    m.devices.insert("mem:a", a);
    why = "has been written to without this volume";
  }
  m.devices.remove("mem:b");
  m.mount_degraded();
  m.write_some(3);
  m.devices.insert("mem:b", why.find("older") != std::string::npos ? old : m.lost);
  const auto before = m.devices.disk("mem:b").clone();
  const auto refused = m.engine->online({"2"});
  REQUIRE(refused.error() == Errc::bad_target);
  REQUIRE(mentions(refused.error(), "mem:b: devid 2 (uuid "));
  REQUIRE(mentions(refused.error(), why));
  REQUIRE(mentions(refused.error(), "--force"));
  REQUIRE(m.devices.disk("mem:b").same_content(*before));
  REQUIRE(m.is_out(2));
  Engine::OnlineRequest request{"2"};
  request.force = true;
  REQUIRE(m.engine->online(request));
  const Status done = m.wait();
  REQUIRE(done.state == State::finished);
  REQUIRE(done.bytes_copied > 2 * kMiB);
  REQUIRE(m.content_is_right());
  REQUIRE(m.alone_is_right("mem:b"));
}

TEST_CASE("what cannot come back is refused with a sentence") {
  Bench m;
  REQUIRE(mentions(m.engine->online({"2"}).error(), "(mem:b) is not out"));
  REQUIRE(mentions(m.engine->online({"9"}).error(), "no devid 9"));
  Engine::OnlineRequest blank;
  blank.path = "mem:c";
  REQUIRE(mentions(m.engine->online(blank).error(), "mem:c: holds no device of this volume"));
  m.lose("mem:b");
  m.mount_degraded();
  const auto absent = m.engine->online({"2"});
  REQUIRE(absent.error() == Errc::not_found);
  REQUIRE(mentions(absent.error(), "last seen as mem:b, is not found"));
  REQUIRE(mentions(absent.error(), "moltfs replace start 2"));
  // At another place: by its path, and by search.
  m.devices.insert("mem:d", m.lost);
  SECTION("a target of a replace") {
    const auto refused = m.engine->start({"2", "mem:d"});
    REQUIRE(refused.error() == Errc::bad_target);
    REQUIRE(mentions(refused.error(), "moltfs device online 2"));
    REQUIRE(mentions(m.engine->start({"1", "mem:d", true}).error(), "is devid 2 of this volume"));
  }
  SECTION("by path") {
    Engine::OnlineRequest request;
    request.path = "mem:d";
    REQUIRE(m.engine->online(request));
    REQUIRE(m.wait().state == State::finished);
    REQUIRE(m.volume->devices()[1].path == "mem:d");
  }
  SECTION("by search") {
    REQUIRE(m.engine->online({"2"}));
    REQUIRE(m.wait().state == State::finished);
    REQUIRE(m.alone_is_right("mem:d"));
  }
}

TEST_CASE("after a cancel the device stays out, is no member, and comes back by what it missed") {
  const bool remount = GENERATE(false, true);
  Bench m;
  m.write_without_b(6);
  std::atomic<bool> hold{true};
  m.host->on_list = [&](LogicalRange) {
    while (hold) std::this_thread::yield();
  };
  m.options.windows_in_flight = 1;
  REQUIRE(m.engine->online({"2"}));
  m.write_some(2);  // overwrites nothing that the device is claimed to have
  std::thread release([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    hold = false;
  });
  REQUIRE(m.engine->cancel());
  release.join();
  REQUIRE(m.engine->status().state == State::cancelled);
  REQUIRE(m.is_out(2));
  REQUIRE(m.superblock_on("mem:b").role == alloc::DeviceRole::target);
  if (remount) {
    m.unmount();
    m.degraded = true;
    REQUIRE(m.mount("mem:b").error() == Errc::bad_target);
    m.degraded = false;
    REQUIRE(m.mount("mem:a"));
    m.engine->run();
  }
  m.write_some(2);
  const uint64_t missed = m.born_after(m.volume->devices()[1].out->whole_until);
  REQUIRE(m.engine->online({"2"}));
  const Status done = m.wait();
  REQUIRE(done.state == State::finished);
  REQUIRE(done.bytes_copied == missed);
  REQUIRE(m.content_is_right());
  REQUIRE(m.alone_is_right("mem:b"));
}

TEST_CASE("a rejoin whose device fails again is suspended; resume copies what is still missing") {
  const bool older = GENERATE(false, true);
  Bench m;
  m.write_without_b(6);
  std::atomic<bool> broken{false};
  m.devices.set_hook([&](const IoRequest& request) -> Result<void> {
    if (broken && is_on(request, "mem:b")) return Error(Errc::io_error);
    return ok();
  });
  std::shared_ptr<moltfs::test::MemoryDisk> copy;
  m.host->on_list = [&](LogicalRange) {
    if (!copy) copy = m.devices.disk("mem:b").clone();
    broken = true;
  };
  m.options.windows_in_flight = 1;
  REQUIRE(m.engine->online({"2"}));
  m.host->write(kBlockSize, m.random).value();  // no error for programs
  REQUIRE(m.wait().state == State::suspended);
  REQUIRE(m.is_out(2));
  m.host->on_list = {};
  m.write_some(2);
  REQUIRE(m.engine->online({"2"}).error() == Errc::replace_running);
  broken = false;
  if (older) {
    m.write_some(2);
    m.devices.remove("mem:b");
    m.devices.insert("mem:b", copy);
  }
  REQUIRE(m.engine->resume());
  const Status done = m.wait();
  INFO(done.reason);
  REQUIRE(done.state == State::finished);
  REQUIRE(done.bytes_copied < 2 * kMiB);
  REQUIRE(m.content_is_right());
  REQUIRE(m.alone_is_right("mem:b"));
}

TEST_CASE("offline is refused for a device with the only copy of something") {
  Machine m({{"mem:a", kSize}});
  m.make("mem:a");
  std::mt19937 random(5);
  m.populate(kMiB, random);
  const auto refused = m.engine->offline("1");
  REQUIRE(refused.error() == Errc::invalid_argument);
  REQUIRE(mentions(refused.error(), "mem:a"));
  REQUIRE(mentions(m.engine->offline("7").error(), "no devid 7"));
  REQUIRE(m.content_is_right());
  Bench mirror;
  REQUIRE(mirror.engine->offline("1"));
  REQUIRE(mirror.engine->offline("1"));  // is out already
  REQUIRE(!mirror.engine->offline("2"));
  mirror.write_some(2);
  REQUIRE(mirror.content_is_right());
}
