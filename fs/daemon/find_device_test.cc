// SPDX-License-Identifier: MIT
// Finding devices by label and uuid; the properties for udev.
#include "fs/daemon/find_device.h"

#include <algorithm>

#include "alloc/disk/superblock.h"
#include "fs/mount/mount.h"
#include "test/support/catch.h"
#include "test/support/memory_device.h"

using namespace moltfs;
using namespace moltfs::fs;
using namespace moltfs::fs::daemon;
using moltfs::test::MemoryDevices;

namespace {

struct Machine {
  RealRuntime runtime;
  MemoryDevices devices;

  std::string make(const std::vector<std::string>& paths, const std::string& label) {
    for (const std::string& path : paths) devices.add(path, 64 << 20);
    MkfsOptions options;
    options.volume.label = label;
    REQUIRE(make_filesystem(runtime, devices, paths, options));
    return super(paths.front()).volume.to_string();
  }
  alloc::Superblock super(const std::string& path) {
    const auto device = devices.open(path, {}).value();
    return alloc::read_superblock(devices.engine(), *device).value();
  }
  void put(const std::string& path, const alloc::Superblock& changed) {
    const auto device = devices.open(path, {}).value();
    REQUIRE(alloc::write_superblock(devices.engine(), *device, changed));
  }
};

}  // namespace

TEST_CASE("a device is found by label, by uuid and by udev's links; other paths are returned") {
  Machine machine;
  machine.devices.add("mem:empty", 64 << 20);
  machine.make({"mem:a"}, "other");
  const std::string uuid = machine.make({"mem:b"}, "my home/ö");
  for (const std::string name :
       {"LABEL=my home/ö", "LABEL=\"my home/ö\"", "/dev/disk/by-label/my\\x20home\\x2fö"}) {
    INFO(name);
    CHECK(find_device(machine.devices, name).value() == "mem:b");
  }
  std::string upper = uuid;
  for (char& c : upper) c = static_cast<char>(std::toupper(c));
  CHECK(find_device(machine.devices, "UUID=" + uuid).value() == "mem:b");
  CHECK(find_device(machine.devices, "UUID=" + upper).value() == "mem:b");
  CHECK(find_device(machine.devices, "/dev/disk/by-uuid/" + uuid).value() == "mem:b");
  CHECK(find_device(machine.devices, "/dev/sdz").value() == "/dev/sdz");
}

TEST_CASE("a label or uuid of no volume, or of two, is an error") {
  Machine machine;
  machine.make({"mem:a"}, "twin");
  machine.make({"mem:b"}, "twin");
  machine.make({"mem:c"}, "");
  const auto ambiguous = find_device(machine.devices, "LABEL=twin");
  REQUIRE(ambiguous.has_error());
  CHECK(ambiguous.error() == Errc::invalid_argument);
  for (const char* name : {"LABEL=", "LABEL=twi", "LABEL=twins", "UUID=", "UUID=1234"}) {
    const auto absent = find_device(machine.devices, name);
    INFO(name);
    REQUIRE(absent.has_error());
    CHECK(absent.error() == Errc::not_found);
  }
}

TEST_CASE("of several members the newest is found; targets and replaced devices never are") {
  Machine machine;
  machine.make({"mem:a", "mem:b", "mem:c"}, "many");
  auto newer = machine.super("mem:b");
  newer.generation = Generation{newer.generation.value + 5};
  machine.put("mem:b", newer);
  CHECK(find_device(machine.devices, "LABEL=many").value() == "mem:b");
  newer.role = alloc::DeviceRole::target;
  newer.device = newer.volume;  // a target is not in the table of devices
  machine.put("mem:b", newer);
  CHECK(find_device(machine.devices, "LABEL=many").value() != "mem:b");
  CHECK(udev_properties(machine.devices, "mem:b").error() == Errc::bad_superblock);
}

TEST_CASE("udev gets type, uuids and label of a member") {
  Machine machine;
  const std::string uuid = machine.make({"mem:a"}, "my home");
  const auto text = udev_properties(machine.devices, "mem:a").value();
  for (const std::string& line :
       {std::string("ID_FS_TYPE=moltfs"), "ID_FS_UUID_ENC=" + uuid,
        "ID_FS_UUID_SUB=" + machine.super("mem:a").device.to_string(),
        std::string("ID_FS_LABEL=my_home"), std::string("ID_FS_LABEL_ENC=my\\x20home")}) {
    INFO(line);
    CHECK(text.find(line + "\n") != std::string::npos);
  }
  machine.devices.add("mem:empty", 64 << 20);
  CHECK(udev_properties(machine.devices, "mem:empty").error() == Errc::bad_superblock);
}

TEST_CASE("udev gets one line for a label, whatever its bytes are") {
  for (const std::string label : {"\n", "\n\n\r", "a\nID_FS_TYPE=ext4", "\x1b"}) {
    Machine machine;
    machine.make({"mem:a"}, "of mkfs");
    auto super = machine.super("mem:a");
    super.label = label;
    machine.put("mem:a", super);
    const auto text = udev_properties(machine.devices, "mem:a").value();
    CHECK(std::count(text.begin(), text.end(), '\n') == 8);
    for (const std::string line : {"\n\n", "\nID_FS_TYPE=ext4"}) {
      CHECK(text.find(line) == std::string::npos);
    }
    CHECK(link_name(label).find_first_of("\n\r\x1b") == std::string::npos);
  }
}

TEST_CASE("udev and its links get no characters that reorder text or cannot be seen") {
  Machine machine;
  machine.make({"mem:a"}, "home\u202eemoh\u200b ö");
  const std::string link = "home\\xe2\\x80\\xaeemoh\\xe2\\x80\\x8b\\x20ö";
  const auto text = udev_properties(machine.devices, "mem:a").value();
  CHECK(text.find("ID_FS_LABEL_ENC=" + link + "\n") != std::string::npos);
  CHECK(text.find("\u202e") == std::string::npos);
  CHECK(text.find("\u200b") == std::string::npos);
  for (const std::string& name :
       {"/dev/disk/by-label/" + link, std::string("LABEL=home\u202eemoh\u200b ö")}) {
    CHECK(find_device(machine.devices, name).value() == "mem:a");
  }
}
