// SPDX-License-Identifier: MIT
// Calls on extended attributes and ACLs.
#include <endian.h>
#include <fmt/format.h>
#include <sys/xattr.h>

#include <algorithm>

#include "test/e2e/differ/call.h"
#include "test/e2e/differ/world.h"

namespace differ {
namespace {

constexpr const char* kAccessAcl = "system.posix_acl_access";
constexpr const char* kDefaultAcl = "system.posix_acl_default";

void append16(std::string& bytes, uint64_t value) {
  const uint16_t n = htole16(static_cast<uint16_t>(value));
  bytes.append(reinterpret_cast<const char*>(&n), sizeof n);
}
void append32(std::string& bytes, uint64_t value) {
  const uint32_t n = htole32(static_cast<uint32_t>(value));
  bytes.append(reinterpret_cast<const char*>(&n), sizeof n);
}

/// An ACL as the kernel takes it; now and then one that makes no sense.
std::string roll_acl(Dice& dice) {
  static const uint64_t kUsers[] = {61001, 61002, 61003};
  static const uint64_t kGroups[] = {62001, 62002};
  constexpr uint64_t kNobody = 0xffffffff;
  std::string bytes;
  append32(bytes, dice.one_in(30) ? 3 : 2);
  const auto entry = [&](uint64_t tag, uint64_t id) {
    append16(bytes, tag);
    append16(bytes, dice.one_in(60) ? 9 : dice.below(8));
    append32(bytes, id);
  };
  const bool user = dice.one_in(2), group = dice.one_in(2);
  entry(0x01, kNobody);
  if (user) entry(0x02, dice.pick(kUsers));
  entry(0x04, kNobody);
  if (group) entry(0x08, dice.pick(kGroups));
  if ((user || group) ? !dice.one_in(20) : dice.one_in(4)) entry(0x10, kNobody);
  if (!dice.one_in(30)) entry(0x20, kNobody);
  if (dice.one_in(12)) bytes.resize(4);  // empty: removes it
  if (dice.one_in(30)) bytes.pop_back();
  return bytes;
}

/// Version 2, only CAP_CHOWN permitted. The kernel refuses other formats.
std::string roll_capability(Dice& dice) {
  std::string bytes;
  append32(bytes, 0x02000000);
  for (const uint64_t word : {1, 0, 0, 0}) append32(bytes, word);
  if (dice.one_in(10)) bytes.pop_back();
  return bytes;
}

std::string roll_attribute(Dice& dice) {
  static const char* const kNames[] = {"user.x",    "user.x",     "user.y",
                                       "trusted.t", "security.s", "security.capability",
                                       kAccessAcl,  kAccessAcl,   kDefaultAcl};
  static const char* const kOdd[] = {"user.", "system.other", "bogus", "foo.bar", "trusted.", ""};
  if (dice.one_in(50)) return "user." + std::string(dice.one_in(2) ? 250 : 251, 'n');
  return dice.one_in(25) ? dice.pick(kOdd) : dice.pick(kNames);
}

void roll_get(Dice& dice, Call& call) {
  static const uint64_t kSizes[] = {65536, 65536, 0, 1, 5};
  if (dice.one_in(4)) {
    call.slot = dice.slot();
  } else {
    call.path = dice.path();
    call.has_path = true;
  }
  call.attribute = roll_attribute(dice);
  call.numbers = {dice.pick(kSizes), dice.below(2)};
}

void roll_set(Dice& dice, Call& call) {
  static const uint64_t kFlags[] = {0, 0, 0, XATTR_CREATE, XATTR_REPLACE, 3, 8};
  // Small: the peer may have one block for all attributes of an inode.
  static const uint64_t kSizes[] = {0, 1, 10, 100, 300, 65537};
  roll_get(dice, call);
  call.numbers = {dice.pick(kFlags), dice.below(2)};
  if (call.attribute == kAccessAcl || call.attribute == kDefaultAcl) {
    call.bytes = roll_acl(dice);
  } else if (call.attribute == "security.capability") {
    call.bytes = roll_capability(dice);
  } else {
    call.bytes.assign(dice.one_in(60) ? 65537 : kSizes[dice.below(5)],
                      static_cast<char>('a' + dice.below(26)));
  }
}

int fd_of(const World& world, const Call& call) {
  return world.fds[static_cast<size_t>(call.slot)];
}

Outcome run_set(World& world, const Call& call) {
  const std::string path = world.full(call.path);
  const char* name = call.attribute.c_str();
  const void* value = call.bytes.data();
  const size_t size = call.bytes.size();
  const auto flags = static_cast<int>(call.number(0));
  if (call.slot >= 0) return outcome_of(fsetxattr(fd_of(world, call), name, value, size, flags));
  return outcome_of(call.number(1) != 0 ? lsetxattr(path.c_str(), name, value, size, flags)
                                        : setxattr(path.c_str(), name, value, size, flags));
}

Outcome run_get(World& world, const Call& call) {
  const std::string path = world.full(call.path);
  const char* name = call.attribute.c_str();
  std::string value(call.number(0), '\0');
  const ssize_t got =
      call.slot >= 0        ? fgetxattr(fd_of(world, call), name, value.data(), value.size())
      : call.number(1) != 0 ? lgetxattr(path.c_str(), name, value.data(), value.size())
                            : getxattr(path.c_str(), name, value.data(), value.size());
  Outcome outcome = outcome_of(got);
  if (got > 0 && !value.empty()) outcome.text = checksum(value.substr(0, static_cast<size_t>(got)));
  return outcome;
}

Outcome run_remove(World& world, const Call& call) {
  const std::string path = world.full(call.path);
  const char* name = call.attribute.c_str();
  if (call.slot >= 0) return outcome_of(fremovexattr(fd_of(world, call), name));
  return outcome_of(call.number(1) != 0 ? lremovexattr(path.c_str(), name)
                                        : removexattr(path.c_str(), name));
}

Outcome run_list(World& world, const Call& call) {
  const std::string path = world.full(call.path);
  std::string list(call.number(0), '\0');
  const ssize_t got = call.slot >= 0 ? flistxattr(fd_of(world, call), list.data(), list.size())
                      : call.number(1) != 0 ? llistxattr(path.c_str(), list.data(), list.size())
                                            : listxattr(path.c_str(), list.data(), list.size());
  Outcome outcome = outcome_of(got);
  if (got <= 0 || list.empty()) return outcome;
  std::vector<std::string> names;
  for (size_t at = 0; at < static_cast<size_t>(got);) {
    names.emplace_back(list.c_str() + at);
    at += names.back().size() + 1;
  }
  std::sort(names.begin(), names.end());
  outcome.text = fmt::format("{}", fmt::join(names, " "));
  return outcome;
}

constexpr Kind kKinds[] = {
    {"setxattr", 10, roll_set, run_set},
    {"getxattr", 4, roll_get, run_get},
    {"removexattr", 3, roll_get, run_remove},
    {"listxattr", 2, roll_get, run_list},
};

}  // namespace

std::span<const Kind> xattr_kinds() {
  return kKinds;
}

}  // namespace differ
