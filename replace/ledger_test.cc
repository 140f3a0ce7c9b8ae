// SPDX-License-Identifier: MIT
// Tests of Ledger: R5 against a model of a target with a volatile cache, in random interleavings of
// writers, commits, the copier, faults, arming and crashes.
#include "replace/ledger.h"

#include <algorithm>
#include <random>

#include "test/support/catch.h"

using namespace moltfs;
using namespace moltfs::replace;

namespace {

/// A life of one volume with one block at each of kPlaces offsets of the source. In each
/// generation, blocks are rewritten elsewhere (copy-on-write): a new thing is born at a free place.
class Life {
 public:
  static constexpr uint64_t kPlaces = 24;

  explicit Life(unsigned seed) : random_(seed) {
    for (Thing& thing : running_) {
      if (below(2) == 0) thing.birth = 1;
    }
    committed_ = running_;
    for (Thing& thing : committed_) thing.target = Copy::none;
  }

  void run(int steps) {
    for (int i = 0; i < steps; ++i) {
      step();
      check();
    }
  }
  unsigned completions = 0, crashes = 0, faults = 0;

 private:
  enum class Copy : uint8_t { none, cached, stable };
  struct Thing {
    uint64_t birth = 0;  // 0: free
    Copy target = Copy::none;
    bool pinned = false;  // freed in the running transaction: must not be reused yet
  };
  using Disk = std::array<Thing, kPlaces>;

  uint64_t below(uint64_t n) { return random_() % n; }

  void step() {
    switch (below(12)) {
      case 0:
      case 1:
      case 2:
        return write();
      case 3:
      case 4:
        return copy();
      case 5:
      case 6:
      case 7:
        return commit_step();
      case 8:
        return below(4) == 0 ? fault() : void();
      case 9:
        return arm();
      case 10:
        return below(6) == 0 ? crash() : void();
      case 11:
        return free_one();
    }
  }

  void write() {
    const uint64_t place = below(kPlaces);
    Thing& thing = running_[place];
    if (thing.birth != 0 || thing.pinned) return;
    const bool mapped = mapped_;
    thing = {running_generation_, mapped ? Copy::cached : Copy::none, false};
  }
  void free_one() {
    Thing& thing = running_[below(kPlaces)];
    if (thing.birth == 0) return;
    // A durable superblock reaches it: it must not be reused before the next commit is durable.
    freed_.push_back(static_cast<size_t>(&thing - running_.data()));
    thing.birth = 0;
    thing.pinned = true;
  }
  void copy() {
    if (!walking_ || !ledger_.standing()) return;
    const Coverage& coverage = ledger_.record().coverage;
    for (uint64_t place = cursor_; place < std::min(cursor_ + 3, kPlaces); ++place) {
      Thing& thing = running_[place];
      if (thing.birth == 0 || coverage.covers(Generation(thing.birth), PhysicalOffset(place))) {
        continue;
      }
      REQUIRE(thing.birth < coverage.armed_since().value);  // R3
      if (thing.target == Copy::none) thing.target = Copy::cached;
    }
    cursor_ = std::min(cursor_ + 3, kPlaces);
    ledger_.current().facts.cursor_left = PhysicalOffset(cursor_);
  }

  void arm() {
    if (ledger_.standing() || ledger_.arming()) return;
    Record candidate = ledger_.record();
    candidate.facts.state = State::copying;
    candidate.facts.source.devid = candidate.facts.target.devid = DeviceId(1);
    candidate.facts.source.uuid.bytes[0] = 1;
    candidate.facts.target.uuid.bytes[0] = 2;
    candidate.facts.cursor_left = PhysicalOffset();
    ledger_.begin_arming(candidate);
    mapped_ = true;
    ledger_.drained();
    walking_ = false;
  }

  /// One step of the commit: seal, flush, durable.
  void commit_step() {
    if (phase_ == 0) {
      closing_ = running_generation_;
      ledger_.on_seal(Generation(closing_));
      sealed_ = running_;
      sealed_freed_ = std::move(freed_);
      freed_.clear();
      ++running_generation_;
      phase_ = 1;
    } else if (phase_ == 1) {
      const bool flushed = mapped_;
      if (flushed) flush(running_), flush(sealed_);
      payload_ = ledger_.on_flushed(flushed);
      phase_ = 2;
    } else {
      // What the target had in its cache when it was flushed is known from sealed_ and running_.
      committed_ = sealed_;
      durable_payload_ = payload_;
      durable_generation_ = closing_;
      for (size_t place : sealed_freed_) running_[place].pinned = false;
      ledger_.on_durable(Generation(closing_));
      if (!walking_ && ledger_.standing() && !ledger_.arming()) begin_walk();
      phase_ = 0;
    }
  }
  static void flush(Disk& disk) {
    for (Thing& thing : disk) {
      if (thing.target == Copy::cached) thing.target = Copy::stable;
    }
  }
  void begin_walk() {
    walking_ = true;
    cursor_ = std::min(ledger_.record().coverage.walk_start().value, kPlaces);
    ledger_.current().facts.cursor_left = PhysicalOffset(cursor_);
  }

  /// The target loses what it had not flushed.
  static void lose_cache(Disk& disk) {
    for (Thing& thing : disk) {
      if (thing.target == Copy::cached) thing.target = Copy::none;
    }
  }
  void fault() {
    if (!ledger_.fault()) return;
    ++faults;
    mapped_ = walking_ = false;
    if (ledger_.arming()) (void)ledger_.give_up_arming();
    lose_cache(running_);
    lose_cache(sealed_);
  }
  void crash() {
    ++crashes;
    // What is at a place now is what a durable superblock names there, unless that was freed.
    Disk after = committed_;
    for (uint64_t place = 0; place < kPlaces; ++place) {
      Thing& thing = after[place];
      if (thing.birth == 0) continue;
      const Thing& now = running_[place];
      if (now.target == Copy::stable) thing.target = Copy::stable;
      if (thing.target == Copy::cached) thing.target = Copy::none;
      thing.pinned = false;
    }
    running_ = after;
    freed_.clear();
    running_generation_ = durable_generation_ + 1;
    phase_ = 0;
    ledger_ = Ledger(decode_record(durable_payload_).value(), Generation(durable_generation_));
    mapped_ = ledger_.standing();
    walking_ = false;
    if (ledger_.standing() && below(3) == 0) {  // the target is not there
      ledger_.fault();
      mapped_ = false;
    }
    if (ledger_.standing()) begin_walk();
  }

  void check() {
    // R5: what the durable record claims of the durable state is stable on the target, or becomes
    // so: nothing else writes there.
    auto durable = decode_record(durable_payload_);
    REQUIRE(durable);
    check_claims(durable.value().coverage, committed_, durable_generation_);
    // What memory claims of the past is at least in the target's cache.
    const Record& record = ledger_.record();
    for (uint64_t place = 0; place < kPlaces; ++place) {
      const Thing& thing = running_[place];
      if (thing.birth == 0) continue;
      if (record.coverage.covers(Generation(thing.birth), PhysicalOffset(place))) {
        REQUIRE(thing.target != Copy::none);
      }
    }
    if (walking_ && cursor_ == kPlaces && ledger_.standing() &&
        ledger_.durable_coverage().complete(PhysicalOffset(kPlaces))) {
      ++completions;
      for (const Thing& thing : committed_) {
        if (thing.birth != 0) REQUIRE(thing.target == Copy::stable);  // R6
      }
    }
  }
  void check_claims(const Coverage& coverage, const Disk& disk, uint64_t generation) {
    for (uint64_t place = 0; place < kPlaces; ++place) {
      const Thing& thing = disk[place];
      if (thing.birth == 0 || thing.birth > generation) continue;
      if (coverage.covers(Generation(thing.birth), PhysicalOffset(place))) {
        REQUIRE(thing.target == Copy::stable);
      }
    }
  }

  std::mt19937 random_;
  Ledger ledger_;
  Disk running_, sealed_, committed_;
  std::vector<size_t> freed_, sealed_freed_;
  uint64_t running_generation_ = 2, closing_ = 0, durable_generation_ = 1;
  int phase_ = 0;
  std::vector<std::byte> payload_, durable_payload_;
  bool mapped_ = false, walking_ = false;
  uint64_t cursor_ = 0;
};

Record armed_record() {
  Record record;
  record.facts.state = State::armed;
  record.facts.source.devid = record.facts.target.devid = DeviceId(1);
  record.facts.source.uuid.bytes[0] = 1;
  record.facts.target.uuid.bytes[0] = 2;
  return record;
}

State state_of(const std::vector<std::byte>& payload) {
  return decode_record(payload).value().facts.state;
}

void whole_commit(Ledger& ledger, uint64_t g) {
  ledger.on_seal(Generation(g));
  (void)ledger.on_flushed(true);
  ledger.on_durable(Generation(g));
}

}  // namespace

TEST_CASE("R5: no durable record claims what the target has not flushed, in random lives") {
  unsigned completions = 0, crashes = 0, faults = 0;
  for (unsigned seed = 0; seed < 3000; ++seed) {
    INFO("seed " << seed);
    Life life(seed);
    life.run(250);
    completions += life.completions;
    crashes += life.crashes;
    faults += life.faults;
  }
  // The lives reach the interesting states.
  REQUIRE(completions > 1000);
  REQUIRE(crashes > 1000);
  REQUIRE(faults > 1000);
}

TEST_CASE("G0 is the generation after the one that is sealed after the drain") {
  Ledger ledger;
  ledger.begin_arming(armed_record());
  whole_commit(ledger, 7);  // one that was under way
  REQUIRE(ledger.arming());
  REQUIRE(ledger.record().facts.state == State::none);
  ledger.drained();
  ledger.on_seal(Generation(8));
  REQUIRE(ledger.record().facts.start_generation == Generation(9));
  REQUIRE(ledger.record().coverage.armed_since() == Generation(9));
  REQUIRE(ledger.arming());
  REQUIRE(state_of(ledger.on_flushed(true)) == State::armed);
  ledger.on_durable(Generation(8));
  REQUIRE(!ledger.arming());
  REQUIRE(ledger.standing());
}

TEST_CASE("a fault before the arming commit is durable leaves the record as it was") {
  for (int when = 0; when < 4; ++when) {
    Ledger ledger;
    ledger.begin_arming(armed_record());
    if (when > 0) ledger.drained();
    if (when > 1) ledger.on_seal(Generation(8));
    if (when > 2) (void)ledger.on_flushed(true);
    REQUIRE(ledger.fault());
    REQUIRE(!ledger.fault());
    REQUIRE(ledger.record().facts.state == State::none);
    if (when == 2) REQUIRE(ledger.on_flushed(false).empty());
    if (when == 3) ledger.on_durable(Generation(8));
    REQUIRE(ledger.arming());  // begun, never finished
    (void)ledger.give_up_arming();
    REQUIRE(!ledger.arming());
    REQUIRE(ledger.record().facts.state == State::none);
  }
}

TEST_CASE("the cursor that is written is the one of the seal") {
  Ledger ledger;
  ledger.begin_arming(armed_record());
  ledger.drained();
  whole_commit(ledger, 8);
  ledger.current().facts.cursor_left = PhysicalOffset(100);
  ledger.on_seal(Generation(9));
  ledger.current().facts.cursor_left = PhysicalOffset(900);
  const Record written = decode_record(ledger.on_flushed(true)).value();
  REQUIRE(written.coverage.covers(Generation(3), PhysicalOffset(99)));
  REQUIRE(!written.coverage.covers(Generation(3), PhysicalOffset(100)));
  REQUIRE(written.facts.cursor_left == PhysicalOffset(100));
}

TEST_CASE("a broken generation does not count, nor a cursor that was not flushed") {
  Ledger ledger;
  ledger.begin_arming(armed_record());
  ledger.drained();
  whole_commit(ledger, 8);
  ledger.current().facts.cursor_left = PhysicalOffset(100);
  whole_commit(ledger, 9);
  ledger.current().facts.cursor_left = PhysicalOffset(900);
  ledger.on_seal(Generation(10));
  REQUIRE(ledger.fault());
  const Record written = decode_record(ledger.on_flushed(true)).value();
  REQUIRE(written.facts.state == State::suspended);
  REQUIRE(written.coverage.covers(Generation(9), PhysicalOffset(1 << 20)));
  REQUIRE(!written.coverage.covers(Generation(10), PhysicalOffset(0)));
  REQUIRE(written.coverage.covers(Generation(3), PhysicalOffset(99)));
  REQUIRE(!written.coverage.covers(Generation(3), PhysicalOffset(100)));
}

TEST_CASE("a target that was not flushed is a fault, reported or not") {
  Ledger ledger;
  ledger.begin_arming(armed_record());
  ledger.drained();
  whole_commit(ledger, 8);
  ledger.on_seal(Generation(9));
  REQUIRE(state_of(ledger.on_flushed(false)) == State::suspended);
  REQUIRE(!ledger.standing());
}
