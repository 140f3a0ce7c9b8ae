// SPDX-License-Identifier: MIT
// Texts for the control interface, and the volume that it commands.
#include "fs/mount/control.h"

#include "test/fuzz/base_images.h"
#include "test/fuzz/mounted.h"
#include "test/fuzz/targets.h"

namespace moltfs::fuzz {

using fs::Control;

Mounted::Mounted() {
  const BaseImage* base = &base_images().front();
  for (const BaseImage& image : base_images()) {
    if (image.name == "all_features") base = &image;
  }
  devices_.insert("mem:a", base->disks.front()->clone());
  devices_.add("mem:target", base->disks.front()->size_bytes());
  fs::Mount::Options options;
  options.commit_interval = Nanoseconds::zero();
  options.replace.windows_in_flight = 1;
  auto mount = fs::Mount::open(runtime_, devices_, {"mem:a"}, options);
  if (!mount) fail("a golden image cannot be mounted: " + mount.error().message());
  mount_ = std::move(mount).value();
}

Mounted::~Mounted() {
  if (auto closed = mount_->close(); !closed) fail("unmount: " + closed.error().message());
}

namespace {

std::string text_from(Choices& choices) {
  static constexpr std::string_view kWords[] = {"start",      "--force",
                                                "1",          "mem:a",
                                                "mem:target", "resume",
                                                "cancel",     "status",
                                                "relatime",   "noatime",
                                                "sync",       "dirsync",
                                                "async",      "atime",
                                                "label",      "\"",
                                                "\\",         "\n",
                                                ",",          "=",
                                                "commit=1",   "18446744073709551616",
                                                "\x7f",       "-1"};
  std::string text;
  for (uint64_t i = choices.below(5); i > 0; --i) {
    text += kWords[choices.below(std::size(kWords))];
    text += " ,\t"[choices.below(3)];
    if (choices.one_in(10)) text += static_cast<char>(choices.any());
    if (choices.one_in(200)) text.append(choices.below(70'000), 'z');
  }
  if (choices.one_in(2) && !text.empty()) text.pop_back();
  return text;
}

}  // namespace

void fuzz_control(Choices& choices) {
  static std::unique_ptr<Mounted> mounted;
  static std::unique_ptr<Control> control;
  static unsigned used = 0;
  if (!mounted || ++used % 20'000 == 0) {
    control.reset();
    mounted.reset();
    mounted = std::make_unique<Mounted>();
    Control::Options options;
    options.owner = 1000;
    options.owner_may_command = true;
    control = std::make_unique<Control>(mounted->mount(), options);
  }
  const auto topic = static_cast<Control::Topic>(choices.below(Control::endpoints().size()));
  static constexpr uint32_t kUsers[] = {0, 1000, 1001, ~uint32_t{0}};
  const fs::CallingProcess user{kUsers[choices.below(std::size(kUsers))], 1};
  if (choices.one_in(3)) {
    (void)control->get(topic, user);
  } else {
    if (control->set(topic, text_from(choices), user)) ++accepted_inputs;
  }
}

}  // namespace moltfs::fuzz
