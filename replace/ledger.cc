// SPDX-License-Identifier: MIT
// What the replace record may claim; ledger.h explains it.
#include "replace/ledger.h"

#include <utility>

#include "alloc/base/assert.h"

namespace moltfs::replace {

Ledger::Ledger(Record record, Generation durable)
    : phase_(record.coverage.open() ? Phase::armed : Phase::off),
      record_(std::move(record)),
      durable_(record_.coverage),
      durable_generation_(durable) {}

void Ledger::begin_arming(Record candidate) {
  ASSERT(phase_ == Phase::off);
  ASSERT(!candidate.coverage.open());
  candidate_ = std::move(candidate);
  phase_ = Phase::arming;
}

void Ledger::drained() {
  if (phase_ == Phase::arming) phase_ = Phase::drained;
}

Record Ledger::give_up_arming() {
  ASSERT(candidate_);
  fault();
  phase_ = Phase::off;
  return *std::exchange(candidate_, std::nullopt);
}

void Ledger::on_seal(Generation closing) {
  if (phase_ == Phase::drained) {
    before_arming_ = std::exchange(record_, *candidate_);
    record_.coverage.arm(closing + 1);
    if (record_.facts.start_generation == Generation()) {
      record_.facts.start_generation = closing + 1;
    }
    phase_ = Phase::sealed;
  }
  sealed_ = record_;
  if (sealed_.coverage.open()) sealed_.coverage.cursor_reached(sealed_.facts.cursor_left);
}

std::vector<std::byte> Ledger::on_flushed(bool target_flushed) {
  if (record_.coverage.open() && !target_flushed) fault();
  const Record& written = record_.coverage.open() ? sealed_ : record_;
  written_open_ = written.coverage.open();
  written_ = written.coverage;
  return encode(written);
}

void Ledger::on_durable(Generation closed) {
  durable_generation_ = closed;
  if (!written_open_ || !record_.coverage.open()) return;
  durable_ = written_;
  if (phase_ == Phase::sealed) {
    candidate_.reset();
    phase_ = Phase::armed;
  }
}

bool Ledger::fault() {
  switch (phase_) {
    case Phase::off:
    case Phase::arm_failed:
      return false;
    case Phase::arming:
    case Phase::drained:
      phase_ = Phase::arm_failed;
      return true;
    case Phase::sealed:
      candidate_->facts = record_.facts;
      record_ = std::move(before_arming_);
      phase_ = Phase::arm_failed;
      return true;
    case Phase::armed:
      record_.coverage = durable_;
      record_.coverage.disarm(durable_generation_);
      record_.facts.errors.read_uncorrectable = record_.coverage.lost_blocks();
      record_.facts.state = State::suspended;
      phase_ = Phase::off;
      return true;
  }
  return false;
}

void Ledger::close(Record last) {
  ASSERT(!last.coverage.open());
  record_ = std::move(last);
  candidate_.reset();
  phase_ = Phase::off;
}

}  // namespace moltfs::replace
