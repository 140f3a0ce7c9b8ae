// SPDX-License-Identifier: MIT
// The fsync log in a mount: what a crash leaves of files, chunks, usage and a replace. A damaged log
// never prevents mounting.
#include <atomic>
#include <random>
#include <thread>

#include "fs/check/dump.h"
#include "fs/filesystem_test_util.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::test;

namespace {

constexpr uint64_t kDeviceBytes = 128ull << 20;

struct LoggedVolume : TestDisks {
  Mount::Options options;
  std::unique_ptr<Mount> mount;

  LoggedVolume() : TestDisks({{"mem:a", kDeviceBytes}}) {
    must(make_filesystem(runtime, devices, {"mem:a"}, {}));
    options.commit_interval = Nanoseconds::zero();
    open();
  }
  ~LoggedVolume() { crash(); }

  void open(const std::string& device = "mem:a") {
    mount = must(Mount::open(runtime, devices, {device}, options));
  }
  void crash() {
    if (mount) mount->abandon();
    mount.reset();
  }
  void close() {
    must(mount->close());
    mount.reset();
  }
  void crash_and_open() {
    crash();
    open();
  }
  Filesystem& fs() { return mount->filesystem(); }
  InodeNumber file(const std::string& name) {
    const auto found = fs().lookup(kRootInode, name);
    return found ? found.value().ino : must(fs().make(kRootInode, name, 0100644, 0, {})).ino;
  }
  void write(const std::string& name, uint64_t offset, const std::string& text) {
    must(fs().write(file(name), offset, bytes_of(text), {}));
  }
  std::string content(const std::string& name) {
    const auto found = fs().lookup(kRootInode, name);
    if (!found) return "nothing";
    std::vector<std::byte> bytes(found.value().size);
    auto read = fs().read(found.value().ino, 0, bytes);
    if (!read) return "unreadable";
    return text_of(bytes);
  }
  CheckReport check_closed(const std::string& device = "mem:a") {
    CheckOptions everything;
    everything.data = true;
    auto report = must(check(runtime, devices, {device}, everything));
    for (const Finding& f : report.findings) UNSCOPED_INFO(f.where + ": " + f.what);
    return report;
  }
  size_t batches() { return mount->volume().found_log().batches.size(); }
  moltfs::test::MemoryDisk& disk() { return devices.disk("mem:a"); }
};

std::string pattern(char c, size_t length) {
  return std::string(length, c);
}

}  // namespace

TEST_CASE("data that a crash left on one device of a mirror is copied to the other") {
  TestDisks m({{"mem:a", kDeviceBytes}, {"mem:b", kDeviceBytes}});
  MkfsOptions mkfs;
  mkfs.volume.data_profile = mkfs.volume.metadata_profile = alloc::Profile::raid1;
  must(make_filesystem(m.runtime, m.devices, {"mem:a", "mem:b"}, mkfs));
  Mount::Options options;
  options.commit_interval = Nanoseconds::zero();
  const std::string text = pattern('q', 3 * 4096);
  const auto crash_after_fsync = [&] {
    auto mount = must(Mount::open(m.runtime, m.devices, {"mem:a"}, options));
    const auto ino = must(mount->filesystem().make(kRootInode, "f", 0100644, 0, {})).ino;
    must(mount->filesystem().write(ino, 0, bytes_of(text), {}));
    must(mount->filesystem().sync());
    mount->abandon();
  };
  crash_after_fsync();
  const std::string lost = GENERATE("mem:a", "mem:b");
  size_t erased = 0;
  for (uint64_t at = alloc::kFirstChunkOffset; at < kDeviceBytes; at += 4096) {
    std::vector<std::byte> block(4096);
    m.devices.disk(lost).read(at, block);
    if (text_of(block) != pattern('q', 4096)) continue;
    m.devices.disk(lost).discard(at, 4096);
    ++erased;
  }
  REQUIRE(erased == 3);
  const auto content = [&](Mount& mount) {
    const auto found = must(mount.filesystem().lookup(kRootInode, "f"));
    std::vector<std::byte> bytes(found.size);
    must(mount.filesystem().read(found.ino, 0, bytes));
    return text_of(bytes);
  };
  {
    auto mount = must(Mount::open(m.runtime, m.devices, {"mem:a"}, options));
    CHECK(mount->volume().found_log().batches.size() == 1);
    must(mount->close());
  }
  CheckOptions everything;
  everything.data = true;
  CHECK(must(check(m.runtime, m.devices, {"mem:a"}, everything)).clean());
  m.devices.remove(lost == "mem:a" ? "mem:b" : "mem:a");
  options.degraded = true;
  auto mount = must(Mount::open(m.runtime, m.devices, {lost}, options));
  CHECK(content(*mount) == text);
}

TEST_CASE("files that were fsynced are there, before and after the commit of the mount") {
  LoggedVolume m;
  m.write("a", 0, pattern('a', 50'000));
  must(m.fs().sync());
  m.write("a", 4096, pattern('b', 8192));
  m.write("b", 0, "small");
  must(m.fs().sync());
  m.write("c", 0, "never synced");
  m.crash();
  CHECK(m.check_closed().clean());
  m.open();
  CHECK(m.batches() == 2);
  const std::string expected =
      pattern('a', 4096) + pattern('b', 8192) + pattern('a', 50'000 - 12'288);
  CHECK(m.content("a") == expected);
  CHECK(m.content("b") == "small");
  CHECK(m.content("c") == "nothing");
  m.crash_and_open();
  CHECK(m.batches() == 0);
  CHECK(m.content("a") == expected);
  m.close();
  CHECK(m.check_closed().clean());
}

TEST_CASE("space that the log names is not used again before the commit") {
  LoggedVolume m;
  must(m.fs().commit());
  m.write("a", 0, pattern('1', 16'384));
  must(m.fs().sync());
  const auto before = m.mount->volume().space().usage();
  // Freed in the transaction in which it was born, but the log refers to it.
  for (int i = 0; i < 50; ++i) m.write("a", 0, pattern(static_cast<char>('A' + i % 26), 16'384));
  CHECK(m.mount->volume().space().usage().pinned_bytes >= before.pinned_bytes + 50 * 16'384);
  m.crash_and_open();
  CHECK(m.content("a") == pattern('1', 16'384));
}

TEST_CASE("the log restores new chunks, and usage is right") {
  LoggedVolume m;
  const size_t before = m.mount->volume().mapper().current()->chunks().size();
  for (int i = 0; i < 8; ++i) {
    m.write("big" + std::to_string(i), 0, pattern(static_cast<char>('a' + i), 3 << 20));
    must(m.fs().sync());
  }
  CHECK(m.mount->volume().mapper().current()->chunks().size() > before + 2);
  const auto used = m.mount->volume().space().usage().data_used_bytes;
  m.crash();
  CHECK(m.check_closed().clean());
  m.open();
  CHECK(m.batches() == 8);
  CHECK(m.mount->volume().space().usage().data_used_bytes == used);
  CHECK(m.content("big7") == pattern('h', 3 << 20));
  must(m.fs().unlink(kRootInode, "big3"));
  must(m.fs().sync());
  m.write("more", 0, pattern('m', 6 << 20));
  m.close();
  CHECK(m.check_closed().clean());
}

TEST_CASE("chunks that fill and empty while a commit writes usage records leave none behind") {
  LoggedVolume m;
  constexpr uint64_t kMuch = 90ull << 20;  // more chunks than the commit records in one section
  const InodeNumber file = m.file("f");
  std::atomic<bool> stop{false};
  std::thread commits([&] {
    while (!stop) must(m.fs().commit());
  });
  SetAttributes empty;
  empty.size = 0;
  for (int i = 0; i < 300; ++i) {
    must(m.fs().allocate(file, AllocateMode::allocate, 0, kMuch, false));
    must(m.fs().set_attributes(file, empty));
  }
  stop = true;
  commits.join();
  m.close();
  CHECK(m.check_closed().clean());
}

TEST_CASE("a batch whose data is not on the device is dropped, earlier batches are kept") {
  LoggedVolume m;
  m.write("a", 0, pattern('1', 8192));
  must(m.fs().sync());
  const auto state = m.disk().clone();
  m.write("a", 0, pattern('2', 8192));
  must(m.fs().sync());
  // The data of the last batch alone is lost: its blocks have their earlier content.
  for (uint64_t at = alloc::kFirstChunkOffset; at < kDeviceBytes; at += 4096) {
    std::vector<std::byte> old(4096), now(4096);
    state->read(at, old);
    m.disk().read(at, now);
    if (old != now) m.disk().write(at, old);
  }
  m.crash();
  CHECK(m.check_closed().clean());
  m.open();
  CHECK(m.content("a") == pattern('1', 8192));
  m.close();
  CHECK(m.check_closed().clean());
}

// Found by the simulator, on a device with rot.
TEST_CASE("rot in old data does not lose a later fsync") {
  LoggedVolume m;
  m.write("a", 0, pattern('1', 8 * 4096));
  must(m.fs().commit());
  m.write("a", 4 * 4096, pattern('2', 4096));  // splits the extent: its ends are in the batch
  m.write("b", 0, pattern('b', 8192));
  must(m.fs().sync());
  for (uint64_t at = alloc::kFirstChunkOffset; at < kDeviceBytes; at += 4096) {
    std::vector<std::byte> block(4096);
    m.disk().read(at, block);
    if (block == std::vector<std::byte>(4096, std::byte{'1'})) m.disk().corrupt(at, 1);
  }
  m.crash_and_open();
  CHECK(m.batches() == 1);
  CHECK(m.content("b") == pattern('b', 8192));
  CHECK(m.content("a") == "unreadable");
  m.close();
}

TEST_CASE("a read-only mount shows what was fsynced and writes nothing") {
  LoggedVolume m;
  m.write("a", 0, pattern('a', 5000));
  must(m.fs().sync());
  m.crash();
  const auto before = m.disk().clone();
  m.options.read_only = true;
  m.open();
  CHECK(m.content("a") == pattern('a', 5000));
  m.crash();
  CHECK(m.disk().same_content(*before));
}

TEST_CASE("the log of an earlier mount is never replayed") {
  LoggedVolume m;
  m.write("a", 0, "one");
  must(m.fs().sync());
  for (const char* text : {"two", "three", "four", "five"}) {
    m.crash_and_open();
    must(m.fs().commit());
    m.write("a", 0, text);
    m.close();
    m.open();
    CHECK(m.batches() == 0);
    CHECK(m.content("a").starts_with(text));
  }
}

TEST_CASE("two devices have the log, and each is enough") {
  for (const char* broken : {"", "mem:a", "mem:b"}) {
    LoggedVolume m;
    m.crash();
    m.devices.add("mem:b", kDeviceBytes);
    MkfsOptions how;
    how.force = true;
    must(make_filesystem(m.runtime, m.devices, {"mem:a", "mem:b"}, how));
    m.open();
    m.write("a", 0, "text");
    must(m.fs().sync());
    if (*broken != 0) {
      for (const uint64_t area : alloc::kLogOffsets) {
        m.devices.disk(broken).corrupt(area + 100, 8);
      }
    }
    m.crash_and_open();
    CHECK(m.batches() == 1);
    CHECK(m.content("a") == "text");
  }
}

TEST_CASE("with three copies three devices have the log, and each is enough; a fourth has none") {
  const std::vector<std::string> paths = {"mem:a", "mem:b", "mem:c", "mem:d"};
  for (const char* good : {"mem:a", "mem:b", "mem:c", "mem:d"}) {
    INFO(good);
    LoggedVolume m;
    m.crash();
    for (const char* path : {"mem:b", "mem:c", "mem:d"}) m.devices.add(path, kDeviceBytes);
    MkfsOptions how;
    how.force = true;
    how.volume.metadata_profile = alloc::Profile::raid1c3;
    must(make_filesystem(m.runtime, m.devices, paths, how));
    m.open();
    m.write("a", 0, "text");
    must(m.fs().sync());
    for (const std::string& path : paths) {
      if (path == good) continue;
      for (const uint64_t area : alloc::kLogOffsets) m.devices.disk(path).corrupt(area + 100, 8);
    }
    m.crash_and_open();
    CHECK(m.batches() == (std::string(good) == "mem:d" ? 0 : 1));
  }
}

TEST_CASE("an unreadable block ends the log, and a temporary read error does no harm") {
  for (const bool for_ever : {false, true}) {
    LoggedVolume m;
    must(m.fs().commit());
    for (int i = 0; i < 3; ++i) {
      m.write("a" + std::to_string(i), 0, "text");
      must(m.fs().sync());
    }
    const uint64_t area = alloc::kLogOffsets[m.mount->transactions().durable().value % 2];
    m.crash();
    std::atomic<int> errors{0};
    m.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
      const bool touches = request.op == alloc::IoOp::read && request.offset <= area + 4096 &&
                           request.offset + request.length > area + 4096;
      if (!touches || (!for_ever && errors > 0)) return ok();
      ++errors;
      return Errc::io_error;
    });
    m.open();
    CHECK(errors > 0);
    CHECK(m.content("a0") == "text");
    CHECK(m.content("a2") == (for_ever ? "nothing" : "text"));
    m.close();
    m.devices.set_hook({});
    CHECK(m.check_closed().clean());
  }
}

TEST_CASE("data that the log restores during a replace reaches the target") {
  LoggedVolume m;
  m.options.replace.window_bytes = 64 << 10;
  m.options.replace.windows_in_flight = 1;
  m.crash_and_open();
  m.write("old", 0, pattern('o', 4 << 20));
  must(m.fs().commit());
  m.devices.add("mem:t", kDeviceBytes);
  std::atomic<bool> slow{true};
  m.devices.set_hook([&](const alloc::IoRequest& request) -> Result<void> {
    if (slow && request.op == alloc::IoOp::read && request.length >= 32'768) {
      m.runtime.sleep(std::chrono::milliseconds(20));
    }
    return ok();
  });
  must(m.mount->replace().start({"1", "mem:t", false}));
  const auto before = m.devices.disk("mem:t").clone();
  m.write("new", 0, pattern('n', 100'000));
  must(m.fs().sync());
  REQUIRE(m.mount->replace().status().state == replace::State::copying);
  m.crash();
  slow = false;
  // Writes that the target had not flushed are lost.
  m.devices.insert("mem:t", before);
  m.open();
  CHECK(m.batches() == 1);
  const auto status = m.mount->replace().wait([] { return false; });
  CHECK(status.state == replace::State::finished);
  m.close();
  m.devices.set_hook({});
  m.devices.remove("mem:a");
  CHECK(m.check_closed("mem:t").clean());
  m.open("mem:t");
  CHECK(m.content("new") == pattern('n', 100'000));
  CHECK(m.content("old") == pattern('o', 4 << 20));
}

TEST_CASE("check and dump replay the log") {
  LoggedVolume m;
  m.write("file", 0, pattern('f', 10'000));
  must(m.fs().sync());
  m.crash();
  CHECK(m.check_closed().clean());
  std::string text;
  DumpRequest request;
  request.paths = {"mem:a"};
  request.print = [&](std::string_view piece) { text += piece; };
  must(dump_log(m.runtime, m.devices, request));
  CHECK(text.find("1 batches on generation") != std::string::npos);
  CHECK(text.find("extent tree: ") != std::string::npos);
  text.clear();
  must(dump_inode(m.runtime, m.devices, request, "/file"));
  CHECK(text.find("extent at 0: ") != std::string::npos);
  text.clear();
  must(dump_tree(m.runtime, m.devices, request, TreeId::fs, std::nullopt));
  CHECK(text.find("\"file\"") != std::string::npos);
}

TEST_CASE("a damaged log never prevents mounting") {
  LoggedVolume m;
  m.write("a", 0, pattern('a', 20'000));
  must(m.fs().commit());
  m.write("a", 4096, pattern('b', 4096));
  must(m.fs().sync());
  m.write("c", 0, pattern('c', 9000));
  must(m.fs().sync());
  const uint64_t area = alloc::kLogOffsets[m.mount->transactions().durable().value % 2];
  m.crash();
  const auto start = m.devices.disk_pointer("mem:a")->clone();
  std::mt19937_64 random(4);
  for (int life = 0; life < 60; ++life) {
    m.devices.insert("mem:a", start->clone());
    for (int change = 0; change < 1 + life % 3; ++change) {
      const uint64_t at = area + random() % (3 * 4096);
      m.disk().corrupt(at, 1 + random() % 64);
    }
    m.open();
    const std::string a = m.content("a");
    CHECK((a == pattern('a', 20'000) ||
           a == pattern('a', 4096) + pattern('b', 4096) + pattern('a', 20'000 - 8192)));
    m.close();
    CHECK(m.check_closed().clean());
  }
}

TEST_CASE("batches with valid frames and random content do no harm") {
  LoggedVolume m;
  m.write("a", 0, pattern('a', 20'000));
  must(m.fs().commit());
  m.crash();
  const auto start = m.devices.disk_pointer("mem:a")->clone();
  std::mt19937_64 random(6);
  int mounted = 0;
  for (int life = 0; life < 150; ++life) {
    m.devices.insert("mem:a", start->clone());
    {
      auto volume = must(alloc::Volume::open(m.runtime, m.devices, {"mem:a"}, {}));
      const auto super = volume->superblock();
      const auto payload = must(decode_fs_payload(super.fs_payload));
      LogContent content;
      content.counters = payload.counters;
      for (uint64_t i = 0; i < 1 + random() % 20; ++i) {
        LogContent::Item item;
        item.id.tree = random() % 2 == 0 ? TreeId::fs : TreeId::extent;
        const uint64_t object = random() % 3 == 0 ? random() : random() % 300;
        item.id.key = {object, static_cast<uint8_t>(random() % 20), random() % 5000};
        if (random() % 3 != 0) {
          item.value.emplace(random() % 200);
          for (std::byte& b : *item.value) b = static_cast<std::byte>(random());
        }
        content.items.push_back(std::move(item));
      }
      alloc::LogBatch batch;
      batch.running = super.generation + 1;
      batch.data_flushed = random() % 2 == 0;
      batch.payload = encode(content);
      auto chain = *volume->log_on(super.generation);
      std::vector<alloc::LogWrite> writes;
      writes.push_back(std::move(*chain.append(batch, volume->devices())));
      must(volume->write_log(writes, false));
    }
    CHECK(check(m.runtime, m.devices, {"mem:a"}, {}));
    auto opened = Mount::open(m.runtime, m.devices, {"mem:a"}, m.options);
    if (!opened) continue;  // the root directory itself may be invalid now
    ++mounted;
    m.mount = std::move(opened).value();
    (void)m.content("a");
    m.crash();
  }
  CHECK(mounted > 100);
}
