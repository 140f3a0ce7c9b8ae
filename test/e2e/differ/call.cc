// SPDX-License-Identifier: MIT
// Rolling calls and describing them.
#include "test/e2e/differ/call.h"

#include <fmt/format.h>

#include "test/e2e/differ/world.h"

namespace differ {
namespace {

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text.substr(0, 48)) {
    if (c >= ' ' && c < 127 && c != '"' && c != '\\') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  if (text.size() > 48) out += fmt::format("...({} bytes)", text.size());
  return out + "\"";
}

const std::vector<const Kind*>& weighted_kinds() {
  static const std::vector<const Kind*> all = [] {
    std::vector<const Kind*> list;
    for (const auto kinds :
         {name_kinds(), attribute_kinds(), content_kinds(), xattr_kinds(), handle_kinds()}) {
      for (const Kind& kind : kinds) list.insert(list.end(), kind.weight, &kind);
    }
    return list;
  }();
  return all;
}

}  // namespace

std::string describe(const Call& call) {
  std::string out = fmt::format("{} as {} umask {:03o}", call.kind->name,
                                identities()[call.user].name, call.umask);
  if (call.has_path) out += " " + quoted(call.path);
  if (call.has_other) out += " " + quoted(call.other);
  if (call.slot >= 0) out += fmt::format(" slot {}", call.slot);
  if (call.other_slot >= 0) out += fmt::format(" slot {}", call.other_slot);
  if (!call.attribute.empty()) out += " " + quoted(call.attribute);
  if (!call.bytes.empty()) out += " " + quoted(call.bytes);
  for (const uint64_t n : call.numbers) {
    out += n < 10 ? fmt::format(" {}", n) : fmt::format(" {:#x}=0{:o}", n, n);
  }
  if (call.timed) out += " (timed)";
  return out;
}

std::string Dice::name() {
  static const char* const kNames[] = {"a", "b", "c", "d", "e", "f"};
  if (!one_in(60)) return pick(kNames);
  switch (below(6)) {
    case 0:
      return std::string(255, 'n');
    case 1:
      return std::string(256, 'n');
    case 2:
      return ".";
    case 3:
      return "b/..";
    case 4:
      return "missing";
    default:
      return "\xff\x01 \xc3\xa9";
  }
}

std::string Dice::path() {
  if (likely_.empty() || one_in(4)) return any_path();
  return likely_[below(likely_.size())];
}

std::string Dice::new_path(bool is_directory) {
  constexpr size_t kMostLikely = 16, kLongest = 600;
  if (one_in(8)) return any_path();
  std::string path = name();
  if (!directories_.empty() && !one_in(3))
    path = directories_[below(directories_.size())] + "/" + path;
  if (path.size() >= kLongest) return path;
  for (auto* list : {&likely_, is_directory ? &directories_ : nullptr}) {
    if (list == nullptr) continue;
    if (list->size() == kMostLikely) {
      list->erase(list->begin() + static_cast<ptrdiff_t>(below(kMostLikely)));
    }
    list->push_back(path);
  }
  return path;
}

std::string Dice::any_path() {
  static const uint64_t kDepths[] = {1, 1, 1, 1, 2, 2, 3};
  std::string path = name();
  for (uint64_t depth = pick(kDepths); depth > 1; --depth) path += "/" + name();
  if (one_in(60)) path += "/";
  if (one_in(300)) path = "";
  if (one_in(300)) path = ".";
  if (one_in(400)) {
    path = std::string(one_in(2) ? 3000 : 4096, '/') + path;
  }
  return path;
}

uint64_t Dice::mode() {
  static const uint64_t kModes[] = {0644,  0755,  0777,  0777,  0666,  0770,  0700,  0600,
                                    0,     0111,  0444,  04755, 02755, 02770, 01777, 06755,
                                    02644, 04711, 02777, 02777, 01777, 06777};
  return one_in(10) ? below(010000) : pick(kModes);
}

uint64_t Dice::offset() {
  static const uint64_t kEdges[] = {0,
                                    1,
                                    511,
                                    2047,
                                    2048,
                                    2049,
                                    4095,
                                    4096,
                                    4097,
                                    8192,
                                    65536,
                                    131072,
                                    1 << 20,
                                    uint64_t{1} << 32,
                                    uint64_t{1} << 40};
  return one_in(2) ? pick(kEdges) : below(200000);
}

uint64_t Dice::length() {
  static const uint64_t kEdges[] = {0, 1, 100, 2048, 4096, 4097, 8192, 65536};
  return one_in(2) ? pick(kEdges) : below(20000);
}

int Dice::slot() {
  return static_cast<int>(below(kSlots));
}

namespace {

const Kind& kind_named(std::string_view name) {
  for (const Kind* kind : weighted_kinds()) {
    if (name == kind->name) return *kind;
  }
  abort();
}

/// The calls a life begins with make something of most names, so that later calls meet something.
Call first_call(Dice& dice, size_t at) {
  static const char* const kDirectories[] = {"a", "b", "a/a", "b/b", "a/b", "b/a"};
  Call call;
  call.user = dice.one_in(2) ? 0 : static_cast<unsigned>(dice.below(identities().size()));
  call.has_path = true;
  call.umask = 0;
  if (at < std::size(kDirectories)) {
    call.kind = &kind_named("mkdir");
    call.path = kDirectories[at];
    dice.expect_directory(call.path);
    call.numbers = {0777};
  } else {
    call.kind = &kind_named("creat");
    call.path = dice.new_path();
    call.slot = dice.slot();
    call.numbers = {0666};
  }
  return call;
}

}  // namespace

std::vector<Call> roll_life(uint64_t seed, size_t count, unsigned timed_one_in) {
  constexpr size_t kFirstCalls = 16;
  Dice dice(seed);
  std::vector<Call> calls;
  for (size_t i = 0; i < count; ++i) {
    calls.push_back(i < kFirstCalls ? first_call(dice, i) : roll_call(dice, timed_one_in));
  }
  return calls;
}

Call roll_call(Dice& dice, unsigned timed_one_in) {
  static const unsigned kUmasks[] = {0, 0, 022, 022, 022, 022, 027, 077};
  Call call;
  call.user = dice.one_in(2) ? 0 : static_cast<unsigned>(dice.below(identities().size()));
  call.umask = dice.pick(kUmasks);
  call.timed = dice.one_in(timed_one_in);
  call.kind = weighted_kinds()[dice.below(weighted_kinds().size())];
  call.kind->roll(dice, call);
  return call;
}

}  // namespace differ
