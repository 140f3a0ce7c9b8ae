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

TEST_CASE("only endpoints with commands can be set, and not everybody may read the status") {
  CHECK(Control::find("replace")->settable);
  CHECK_FALSE(Control::find("replace")->readable_by_all);
  CHECK_FALSE(Control::find("message")->settable);
  CHECK_FALSE(Control::find("usage")->settable);
  CHECK(Control::find("pid")->readable_by_all);
  CHECK(Control::find("options")->settable);
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
  Control control(*volume.mount, 1000);
  REQUIRE(control.set(Control::Topic::label, "new label\n", 1000));
  CHECK(control.get(Control::Topic::label, 77).value() == "new label");
  CHECK(!control.set(Control::Topic::label, "a\tb", 0));
  CHECK(!control.get(Control::Topic::message, 0).value().empty());
  CHECK(control.set(Control::Topic::label, "other", 77).error() == Errc::not_permitted);
  CHECK(control.get(Control::Topic::label, 77).value() == "new label");
}
