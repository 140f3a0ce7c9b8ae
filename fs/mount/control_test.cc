// SPDX-License-Identifier: MIT
// The endpoints of the control interface and their JSON. Commands are tested on real mounts.
#include "fs/mount/control.h"

#include <unistd.h>

#include "alloc/base/json.h"
#include "test/support/catch.h"
#include "test/support/memory_device.h"

using namespace moltfs;
using namespace moltfs::fs;

namespace {

/// A mounted volume in memory with the given label.
struct MountedVolume {
  RealRuntime runtime;
  test::MemoryDevices devices;
  std::unique_ptr<Mount> mount;

  explicit MountedVolume(const std::string& label, const std::string& path = "mem:a") {
    devices.add(path, 64ull << 20);
    MkfsOptions options;
    options.volume.label = label;
    REQUIRE(make_filesystem(runtime, devices, {path}, options));
    mount = Mount::open(runtime, devices, {path}, {}).value();
  }
};

constexpr CallingProcess kAdministrator{0, 10}, kWeakRoot{0, 11}, kStranger{77, 12};

/// Knows one administrator, and no target that can be used.
struct FakeBroker final : Broker {
  std::string calls;

  Result<void> check_admin(const CallingProcess& caller) override {
    if (caller.pid == kAdministrator.pid) return ok();
    return Error(Errc::not_permitted, "not an administrator");
  }
  Result<std::vector<uint32_t>> groups_of(const CallingProcess&) override {
    return std::vector<uint32_t>();
  }
  Result<std::vector<int>> open_blank(const CallingProcess&, const std::string& path) override {
    calls += "blank " + path + ";";
    return Error(Errc::foreign_signature, path + ": is not blank");
  }
  Result<std::vector<int>> take_target(const CallingProcess&, int number,
                                       const std::string&) override {
    calls += "take " + std::to_string(number) + ";";
    return Errc::access_denied;
  }
};

}  // namespace

TEST_CASE("endpoints are in the order of their topics, each found by its name") {
  const auto& endpoints = Control::endpoints();
  for (size_t i = 0; i < endpoints.size(); ++i) {
    CHECK(static_cast<size_t>(endpoints[i].topic) == i);
    CHECK(Control::find(endpoints[i].name) == &endpoints[i]);
  }
  CHECK(Control::find("") == nullptr);
  CHECK(Control::find("replac") == nullptr);
  CHECK(Control::find("replace2") == nullptr);
}

TEST_CASE("only endpoints with commands can be set, and everybody may read the pid alone") {
  CHECK(Control::find("replace")->settable);
  CHECK_FALSE(Control::find("message")->settable);
  CHECK_FALSE(Control::find("usage")->settable);
  CHECK(Control::find("options")->settable);
  for (const Control::Endpoint& endpoint : Control::endpoints()) {
    CHECK(endpoint.readable_by_all == (endpoint.name == "pid"));
  }
}

TEST_CASE("an administrator may command, root without that right and other users may not") {
  MountedVolume volume("old");
  FakeBroker broker;
  Control control(*volume.mount, {.owner = 0, .broker = &broker});
  for (const Control::Endpoint& endpoint : Control::endpoints()) {
    INFO(endpoint.name);
    CHECK(control.get(endpoint.topic, kAdministrator));
    CHECK(control.get(endpoint.topic, kWeakRoot).has_value() == (endpoint.name == "pid"));
    CHECK(control.get(endpoint.topic, kStranger).has_value() == (endpoint.name == "pid"));
    CHECK(control.set(endpoint.topic, "x", kWeakRoot).error() == Errc::not_permitted);
  }
  CHECK(control.set(Control::Topic::label, "new", kAdministrator));
  CHECK(control.set(Control::Topic::label, "other", kWeakRoot).error() == Errc::not_permitted);
  CHECK(control.get(Control::Topic::label, kAdministrator).value() == "new");
}

TEST_CASE("usage tells by device and by profile what is used, fits, and is useless") {
  RealRuntime runtime;
  test::MemoryDevices devices;
  constexpr uint64_t kMiB = 1 << 20;
  devices.add("mem:a", 64 * kMiB);
  devices.add("mem:b", 64 * kMiB);
  devices.add("mem:c", 300 * kMiB);
  MkfsOptions options;
  options.volume.data_profile = options.volume.metadata_profile = alloc::Profile::raid1;
  REQUIRE(make_filesystem(runtime, devices, {"mem:a", "mem:b", "mem:c"}, options));
  const auto mount = Mount::open(runtime, devices, {"mem:a"}, {}).value();
  FakeBroker broker;
  Control control(*mount, {.owner = 0, .broker = &broker});
  const auto usage =
      Json::parse(control.get(Control::Topic::usage, kAdministrator).value()).value();
  CHECK(usage.number("device_bytes") == 416 * kMiB);
  CHECK(usage.number("total_bytes") == 120 * kMiB);  // what df shows
  CHECK(usage.number("available_bytes") > 100 * kMiB);
  const auto by_device = usage.elements("devices");
  REQUIRE(by_device.size() == 3);
  uint64_t metadata = 0, data = 0;
  for (const Json& device : by_device) {
    const uint64_t in_chunks =
        device.number("data_chunk_bytes") + device.number("metadata_chunk_bytes");
    CHECK(device.number("usable_bytes") == device.number("size_bytes") - 4 * kMiB);
    CHECK(device.number("unallocated_bytes") == device.number("usable_bytes") - in_chunks);
    CHECK(device.text("state") == "in");
    data += device.number("data_chunk_bytes");
    metadata += device.number("metadata_chunk_bytes");
  }
  CHECK(by_device[0].number("useless_bytes") == 0);
  CHECK(by_device[1].number("useless_bytes") == 0);
  // The two small devices have 120 MiB for the other copies.
  CHECK(by_device[2].number("useless_bytes") == 176 * kMiB);

  const auto by_profile = usage.elements("profiles");
  REQUIRE(by_profile.size() == 2);
  CHECK(by_profile[0].text("kind") == "data");
  CHECK(by_profile[0].number("device_bytes") == data);
  CHECK(by_profile[0].number("chunk_bytes") * 2 == data);
  CHECK(by_profile[1].text("kind") == "metadata");
  CHECK(by_profile[1].text("profile") == "raid1");
  CHECK(by_profile[1].number("copies") == 2);
  CHECK(by_profile[1].number("device_bytes") == metadata);
  CHECK(metadata > 0);
  CHECK(by_profile[1].number("used_bytes") > 0);
  CHECK(by_profile[1].number("fits_bytes") == 120 * kMiB - (data + metadata) / 2);
  CHECK(mount->close());
}

TEST_CASE("an ordinary user who mounted may command without being an administrator") {
  MountedVolume volume("old");
  FakeBroker broker;
  Control control(*volume.mount, {.owner = 1000, .owner_may_command = true, .broker = &broker});
  CHECK(control.set(Control::Topic::label, "his", {1000, 0}));
  CHECK(control.set(Control::Topic::label, "of another", {1001, 0}).error() == Errc::not_permitted);
  CHECK(control.get(Control::Topic::label, {1000, 0}).value() == "his");
}

TEST_CASE("control=status allows reading only, control=off nothing but the pid") {
  MountedVolume volume("old");
  FakeBroker broker;
  Control status(*volume.mount, {.level = Control::Level::status, .broker = &broker});
  CHECK(status.get(Control::Topic::label, kAdministrator).value() == "old");
  for (const char* command : {"cancel", "start 1 mem:b", "start --force 1 mem:b"}) {
    const auto refused = status.set(Control::Topic::replace, command, kAdministrator);
    REQUIRE(!refused);
    CHECK(refused.error() == Errc::not_supported);
    CHECK(refused.error().message().find("control=status") != std::string::npos);
  }
  Control off(*volume.mount, {.level = Control::Level::off, .broker = &broker});
  CHECK(off.get(Control::Topic::pid, kStranger));
  CHECK(off.get(Control::Topic::label, kAdministrator).error() == Errc::not_supported);
  const auto refused = off.set(Control::Topic::sync, "1", kAdministrator);
  REQUIRE(!refused);
  CHECK(refused.error().message().find("control=off") != std::string::npos);
}

TEST_CASE("a device goes out only by the call: whoever copies files gives up no redundancy") {
  using Interface = Control::Interface;
  MountedVolume volume("a");
  FakeBroker broker;
  Control control(*volume.mount, {.broker = &broker});
  const auto refused =
      control.set(Control::Topic::replace, "offline 1", kAdministrator, Interface::name, -1);
  REQUIRE(!refused);
  CHECK(refused.error() == Errc::not_permitted);
  CHECK(refused.error().message().find("moltfs device offline") != std::string::npos);
  const auto only_copy =
      control.set(Control::Topic::replace, "offline 1", kAdministrator, Interface::ioctl, -1);
  REQUIRE(!only_copy);
  CHECK(only_copy.error() == Errc::invalid_argument);
  const auto forced =
      control.set(Control::Topic::replace, "online --force 1", kAdministrator, Interface::name, -1);
  REQUIRE(!forced);
  CHECK(forced.error() == Errc::not_permitted);
}

TEST_CASE("--force is taken from the call alone; a name leads to the broker's check for blanks") {
  using Interface = Control::Interface;
  MountedVolume volume("a");
  FakeBroker broker;
  Control control(*volume.mount, {.broker = &broker});
  const auto start = [&](const char* text, Interface interface, int socket) {
    const auto set = control.set(Control::Topic::replace, text, kAdministrator, interface, socket);
    REQUIRE(!set);
    return set.error();
  };
  const Error forced = start("start --force 1 mem:b", Interface::name, -1);
  CHECK(forced == Errc::not_permitted);
  CHECK(forced.message().find("command line") != std::string::npos);
  CHECK(broker.calls.empty());
  CHECK(start("start 1 mem:b", Interface::name, -1) == Errc::foreign_signature);
  CHECK(broker.calls == "blank mem:b;");
  // By a name nobody brings a socket, whatever number is given.
  CHECK(start("start 1 mem:b", Interface::name, 5) == Errc::foreign_signature);
  CHECK(broker.calls == "blank mem:b;blank mem:b;");
  broker.calls.clear();
  CHECK(start("start --force 1 mem:b", Interface::ioctl, 7) == Errc::access_denied);
  CHECK(broker.calls == "take 7;");
  CHECK(start("start 1 mem:b", Interface::ioctl, -1) == Errc::bad_command);
}

TEST_CASE("a label that is the word null is a label") {
  MountedVolume volume("null");
  for (const std::string& text : {usage_json(*volume.mount), devices_json(*volume.mount)}) {
    INFO(text);
    const auto json = Json::parse(text);
    REQUIRE(json);
    CHECK(json->text("label") == "null");
  }
  CHECK(Json::parse(usage_json(*volume.mount))->find("read_only_reason")->is_null());
}

TEST_CASE("labels and paths that are not UTF-8 give valid JSON") {
  MountedVolume volume("caf\xe9", "mem:d\xe9vice\x01");
  const auto usage = Json::parse(usage_json(*volume.mount));
  REQUIRE(usage);
  CHECK(usage->text("label") == "caf\ufffd");
  const auto devices = Json::parse(devices_json(*volume.mount));
  REQUIRE(devices);
  CHECK(devices->text("label") == "caf\ufffd");
  REQUIRE(devices->elements("devices").size() == 1);
  CHECK(devices->elements("devices")[0].text("path") == "mem:d\ufffdvice\x01");
  CHECK(devices->elements("devices")[0].number("devid") == 1);
}

TEST_CASE("a label is set by its endpoint, and one with control characters is refused") {
  MountedVolume volume("old");
  FakeBroker broker;
  Control control(*volume.mount, {.broker = &broker});
  REQUIRE(control.set(Control::Topic::label, "new label\n", kAdministrator));
  CHECK(control.get(Control::Topic::label, kAdministrator).value() == "new label");
  CHECK(!control.set(Control::Topic::label, "a\tb", kAdministrator));
  CHECK(!control.get(Control::Topic::message, kAdministrator).value().empty());
  CHECK(control.get(Control::Topic::label, kAdministrator).value() == "new label");
}

TEST_CASE("a message about a path has no characters that a terminal obeys") {
  MountedVolume volume("a");
  FakeBroker broker;
  Control control(*volume.mount, {.broker = &broker});
  const auto refused =
      control.set(Control::Topic::replace, "start 1 mem:\u202eb\xff", kAdministrator);
  REQUIRE(!refused);
  CHECK(refused.error().message().find("\u202e") != std::string::npos);
  const std::string message = control.get(Control::Topic::message, kAdministrator).value();
  CHECK(message.find("mem:\\xe2\\x80\\xaeb\\xff") != std::string::npos);
}
