// SPDX-License-Identifier: MIT
// A call of the differential tester: what is asked of both filesystems, made from dice, and the
// kinds there are. A call names paths, not inodes, and slots, not descriptors, so that it means the
// same on both, and a list of calls can be run again without some of them.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace differ {

struct World;
struct Kind;
struct Outcome;

struct Call {
  const Kind* kind = nullptr;
  unsigned user = 0;  ///< index into identities()
  unsigned umask = 022;
  bool timed = false;       ///< a clock tick lies between this call and the one before
  std::string path, other;  ///< relative to the world's root
  bool has_path = false, has_other = false;
  int slot = -1, other_slot = -1;
  std::vector<uint64_t> numbers;
  std::string bytes;      ///< an attribute's value or a symlink's target
  std::string attribute;  ///< an attribute's name

  uint64_t number(size_t i) const { return i < numbers.size() ? numbers[i] : 0; }
};

/// One line, enough to do it by hand.
std::string describe(const Call& call);

/// Random numbers, the same on every machine for a seed.
class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  uint64_t below(uint64_t n) { return engine_() % n; }
  bool one_in(uint64_t n) { return below(n) == 0; }
  template <class T, size_t N>
  T pick(const T (&from)[N]) {
    return from[below(N)];
  }
  /// A path that may exist, because an earlier call was to make it.
  std::string path();
  /// A path for something new.
  std::string new_path(bool is_directory = false);
  void expect_directory(const std::string& path) { directories_.push_back(path); }
  uint64_t mode();
  /// In a file; now and then far out.
  uint64_t offset();
  uint64_t length();
  int slot();

 private:
  std::string name();
  std::string any_path();
  std::mt19937_64 engine_;
  // Paths that calls were to make something of, and those among them for directories.
  std::vector<std::string> likely_, directories_;
};

/// A kind of call: how often it comes, how its arguments are rolled, how it is done.
struct Kind {
  const char* name;
  unsigned weight;
  void (*roll)(Dice&, Call&);
  Outcome (*run)(World&, const Call&);
};

std::span<const Kind> name_kinds();
std::span<const Kind> attribute_kinds();
std::span<const Kind> content_kinds();
std::span<const Kind> xattr_kinds();
std::span<const Kind> handle_kinds();

/// The next call; one in `timed_one_in` is timed.
Call roll_call(Dice& dice, unsigned timed_one_in);
/// The calls of the life with that seed.
std::vector<Call> roll_life(uint64_t seed, size_t count, unsigned timed_one_in);

}  // namespace differ
