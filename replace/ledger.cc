// SPDX-License-Identifier: MIT
// What the replace record may claim: see the head of ledger.h.
#include "replace/ledger.h"

#include <utility>

#include "alloc/base/assert.h"

namespace moltfs::replace {

Ledger::Ledger(Record record, Generation durable)
    : record_(std::move(record)),
      standing_(record_.coverage.open()),
      durable_(record_.coverage),
      durable_generation_(durable) {}

void Ledger::begin_arming(Record candidate) {
  ASSERT(!standing_ && !candidate_);
  ASSERT(!candidate.coverage.open());
  candidate_ = std::move(candidate);
  standing_ = true;
  drained_ = arm_sealed_ = false;
}

void Ledger::drained() {
  drained_ = true;
}

Record Ledger::give_up_arming() {
  ASSERT(candidate_);
  fault();
  return *std::exchange(candidate_, std::nullopt);
}

void Ledger::on_seal(Generation closing) {
  if (candidate_ && drained_ && standing_ && !arm_sealed_) {
    before_arming_ = std::exchange(record_, *candidate_);
    record_.coverage.arm(closing + 1);
    if (record_.facts.start_generation == Generation()) {
      record_.facts.start_generation = closing + 1;
    }
    arm_sealed_ = true;
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
  if (arm_sealed_) {
    candidate_.reset();
    arm_sealed_ = false;
  }
}

bool Ledger::fault() {
  if (!standing_) return false;
  standing_ = false;
  if (candidate_) {
    if (arm_sealed_) {
      candidate_->facts = record_.facts;
      record_ = std::move(before_arming_);
    }
    drained_ = arm_sealed_ = false;
    return true;
  }
  record_.coverage = durable_;
  record_.coverage.disarm(durable_generation_);
  record_.facts.state = State::suspended;
  return true;
}

void Ledger::close(Record last) {
  ASSERT(!last.coverage.open());
  standing_ = false;
  candidate_.reset();
  drained_ = arm_sealed_ = false;
  record_ = std::move(last);
}

}  // namespace moltfs::replace
