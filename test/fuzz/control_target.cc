// SPDX-License-Identifier: MIT
// Texts for the control interface, and the volume that it commands.
#include "fs/mount/control.h"

#include "alloc/base/json.h"
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

/// A command that is in order, or has one other byte.
std::string command_from(Choices& choices) {
  static constexpr std::string_view kCommands[] = {"start 1 mem:target",
                                                   "start 1 mem:a",
                                                   "start --force 1 \"mem:target\"",
                                                   "resume",
                                                   "cancel",
                                                   "resume --accept-loss",
                                                   "noatime,sync",
                                                   "relatime,async",
                                                   "strictatime,dirsync",
                                                   "a label\x1b[2J\xff\xc2"};
  std::string text(choices.of(kCommands));
  if (choices.one_in(4)) choices.of(text) = static_cast<char>(choices.any());
  return text;
}

bool is_json(Control::Topic topic) {
  using Topic = Control::Topic;
  return topic == Topic::replace || topic == Topic::usage || topic == Topic::devices ||
         topic == Topic::errors;
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
  static constexpr uint32_t kOthers[] = {0, 1001, ~uint32_t{0}};
  const fs::CallingProcess user{choices.one_in(8) ? choices.of(kOthers) : 1000, 1};
  if (choices.one_in(3)) {
    const auto answer = control->get(topic, user);
    if (answer && is_json(topic) && !Json::parse(answer.value())) {
      fail("not JSON: " + answer.value());
    }
    return;
  }
  const auto interface = choices.one_in(2) ? Control::Interface::ioctl : Control::Interface::name;
  const std::string text = choices.one_in(2) ? command_from(choices) : text_from(choices);
  if (control->set(topic, text, user, interface)) ++accepted_inputs;
}

}  // namespace moltfs::fuzz
