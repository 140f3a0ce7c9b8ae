// SPDX-License-Identifier: MIT
// Making calls, comparing them, and shrinking a list of calls that shows a difference.
#include "test/e2e/differ/life.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <set>

namespace differ {
namespace {

using std::chrono::steady_clock;

int64_t clock_ns(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

/// Afterwards the time of a file that is set to now differs from all times set before. Filesystems
/// take it from the coarse clock. To sleep for the length of a tick is not enough: on a busy virtual
/// machine that clock was seen to stand still for 12 ms, three ticks.
void wait_for_tick() {
  constexpr useconds_t kPollMicroseconds = 500;
  const int64_t now = clock_ns(CLOCK_REALTIME);
  while (clock_ns(CLOCK_REALTIME_COARSE) <= now) usleep(kPollMicroseconds);
}

/// Facts whose names end so are shown beside a difference in " moved", and not compared.
constexpr std::string_view kTimes = " times";

/// Access, modify, change and birth time.
std::string describe_times(const Look& look) {
  std::string out;
  for (const auto& [seconds, nanoseconds] : look.times) {
    out += fmt::format("{}{}.{:09}", out.empty() ? "" : " ", seconds, nanoseconds);
  }
  return out;
}

std::string parent_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}

/// The inodes that a call can touch, each with a name for its facts.
class Watched {
 public:
  Watched(const World& world, const Call& call) : world_(world) {
    if (call.has_path) watch_path("path", call.path);
    if (call.has_other) watch_path("other", call.other);
    for (const int slot : {call.slot, call.other_slot}) {
      if (slot >= 0) watch(slot == call.slot ? "slot" : "other slot", slot, "", false);
    }
  }

  void look() {
    for (Place& place : places_) place.before = look_at(place);
  }

  void report(bool timed, Facts& facts) const {
    for (const Place& place : places_) {
      const Look after = look_at(place);
      for (const auto& [name, value] : after.facts) facts[place.name + ' ' + name] = value;
      if (!timed) continue;
      facts[place.name + " moved"] = moved(place.before, after);
      facts[place.name + std::string(kTimes)] =
          fmt::format("{} -> {}", describe_times(place.before), describe_times(after));
      facts[place.name + " accessed"] = accessed(place.before, after);
    }
  }

 private:
  struct Place {
    std::string name;
    int slot;
    std::string path;
    bool follow;
    Look before;
  };

  void watch(std::string name, int slot, const std::string& path, bool follow) {
    places_.push_back({std::move(name), slot, path, follow, {}});
  }
  void watch_path(const std::string& name, const std::string& path) {
    watch(name, -1, path, false);
    watch(name + " target", -1, path, true);
    watch(name + " parent", -1, parent_of(path), false);
  }
  Look look_at(const Place& place) const {
    if (place.slot < 0)
      return differ::look_at(world_, AT_FDCWD, world_.full(place.path), place.follow);
    const int fd = world_.fds[static_cast<size_t>(place.slot)];
    if (fd < 0) return {};
    return differ::look_at(world_, fd, "", false);
  }

  const World& world_;
  std::vector<Place> places_;
};

/// Called after a call was compared. Removes differences that are allowed, so that they do not show
/// in later calls:
///   - Filesystems differ in whether setting an attribute to its old value, or removing an ACL that
///     does not exist, changes ctime. Afterwards it has changed on both.
///   - They differ in whether truncate(2) to the same size changes mtime. Likewise.
///   - A refused chown(-1, -1) removes the capability of a FUSE file: the kernel removes it first.
///     Afterwards both have lost it.
void remove_allowed_differences(const World& world, const Call& call) {
  const std::string_view kind = call.kind->name;
  const bool sets_attribute = kind == "setxattr" || kind == "removexattr";
  const auto is_nobody = [&](size_t i) { return static_cast<uid_t>(call.number(i)) == UINT32_MAX; };
  const bool is_chown_to_nobody = kind.ends_with("chown") && is_nobody(0) && is_nobody(1);
  const bool truncates = kind == "truncate";
  if (!sets_attribute && !truncates && !is_chown_to_nobody) return;
  std::string path = world.full(call.path);
  if (call.slot >= 0) {
    path = fmt::format("/proc/self/fd/{}", world.fds[static_cast<size_t>(call.slot)]);
  }
  struct stat s;
  if (stat(path.c_str(), &s) != 0) return;
  if (sets_attribute) {
    (void)chmod(path.c_str(), s.st_mode & 07777);
  } else if (truncates) {
    const timespec times[] = {{0, UTIME_OMIT}, {0, UTIME_NOW}};
    (void)utimensat(AT_FDCWD, path.c_str(), times, 0);
  } else {
    (void)removexattr(path.c_str(), "security.capability");
  }
}

}  // namespace

Outcome Lives::make(World& world, const Call& call) {
  const Acting acting(call.user, call.umask);
  return call.kind->run(world, call);
}

Facts Lives::make_and_look(World& world, const Call& call) {
  Facts facts;
  Watched watched(world, call);
  if (call.timed) watched.look();
  const Outcome outcome = make(world, call);
  watched.report(call.timed, facts);
  facts["result"] =
      outcome.error != 0 ? error_name(outcome.error) : fmt::format("{}", outcome.value);
  if (!outcome.text.empty()) facts["answer"] = outcome.text;
  if (&world == &theirs_) {
    auto& [succeeded, failed] = tally_[call.kind->name];
    ++(outcome.error == 0 ? succeeded : failed);
  }
  return facts;
}

std::optional<Finding> Lives::compare(size_t at, const Call& call, bool whole, const Facts& ours,
                                      const Facts& theirs) {
  std::set<std::string> names;
  for (const Facts* facts : {&ours, &theirs}) {
    for (const auto& [name, value] : *facts) names.insert(name);
  }
  const auto value_of = [](const Facts& facts, const std::string& name) {
    const auto found = facts.find(name);
    return found == facts.end() ? std::string("-") : found->second;
  };
  Finding finding{at, fmt::format("{} {}", whole ? "the tree after" : "", describe(call)),
                  whole ? "tree" : call.kind->name};
  bool found = false;
  for (const std::string& name : names) {
    if (name.ends_with(kTimes)) continue;
    const Difference difference{whole ? nullptr : &call, name, value_of(ours, name),
                                value_of(theirs, name), &ours};
    if (difference.ours == difference.theirs) continue;
    if (difference.ours == kUnclear || difference.theirs == kUnclear) continue;
    if (const Rule* rule = explanation_of(difference, peer_)) {
      ++explained_[rule->name];
      continue;
    }
    found = true;
    finding.text +=
        fmt::format("\n      {}: moltfs {}, kernel {}", name, difference.ours, difference.theirs);
    if (!whole) finding.signature += ' ' + name;
    if (name.ends_with(" moved")) {
      const std::string times = name.substr(0, name.rfind(' ')) + std::string(kTimes);
      finding.text +=
          fmt::format("\n        access, modify, change, birth: moltfs {}\n        kernel {}",
                      value_of(ours, times), value_of(theirs, times));
    }
  }
  if (!found) return std::nullopt;
  return finding;
}

std::optional<Finding> Lives::run(const std::vector<Call>& calls, size_t tree_every) {
  begin();
  for (size_t i = 0; i < calls.size(); ++i) {
    if (is_left_out(calls[i], peer_)) continue;
    if (auto finding = step(i, calls[i])) return finding;
    if ((i + 1) % tree_every != 0 && i + 1 != calls.size()) continue;
    if (auto finding = compare_trees(i, calls[i])) return finding;
  }
  return std::nullopt;
}

void Lives::begin() {
  ++lives_;
  ours_.begin(lives_);
  theirs_.begin(lives_);
}

std::optional<Finding> Lives::step(size_t at, const Call& call) {
  if (call.timed) wait_for_tick();
  const Facts ours = make_and_look(ours_, call);
  const Facts theirs = make_and_look(theirs_, call);
  for (const World* world : {&ours_, &theirs_}) remove_allowed_differences(*world, call);
  if (trace_) fmt::print("{}: {}: {}\n", at + 1, describe(call), theirs.at("result"));
  return compare(at, call, false, ours, theirs);
}

std::optional<Finding> Lives::compare_trees(size_t at, const Call& call) {
  return compare(at, call, true, whole_tree(ours_), whole_tree(theirs_));
}

/// True if the last of `calls` shows that difference after the others; theirs do not count.
bool Lives::still_shows(const std::vector<Call>& calls, const Finding& wanted) {
  begin();
  for (size_t i = 0; i + 1 < calls.size(); ++i) {
    if (is_left_out(calls[i], peer_)) continue;
    for (World* world : {&ours_, &theirs_}) {
      make(*world, calls[i]);
      remove_allowed_differences(*world, calls[i]);
    }
  }
  auto found = step(calls.size() - 1, calls.back());
  if (!found) found = compare_trees(calls.size() - 1, calls.back());
  return found && found->signature == wanted.signature;
}

std::vector<Call> Lives::shrink(std::vector<Call> calls, const Finding& finding, unsigned seconds) {
  const auto deadline = steady_clock::now() + std::chrono::seconds(seconds);
  calls.resize(finding.at + 1);
  for (size_t piece = (calls.size() + 1) / 2; piece > 0; piece /= 2) {
    for (size_t end = calls.size() - 1; end > 0 && steady_clock::now() < deadline;) {
      const size_t begin = end > piece ? end - piece : 0;
      std::vector<Call> fewer(calls.begin(), calls.begin() + static_cast<ptrdiff_t>(begin));
      fewer.insert(fewer.end(), calls.begin() + static_cast<ptrdiff_t>(end), calls.end());
      if (still_shows(fewer, finding)) calls = std::move(fewer);
      end = begin;
    }
  }
  return calls;
}

}  // namespace differ
