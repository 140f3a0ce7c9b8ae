// SPDX-License-Identifier: MIT
// Drawing operations on files, and what they do to the model.
#include "test/e2e/file_operation.h"

#include <algorithm>

namespace e2e {
namespace {

struct Named {
  const char* name;
  unsigned weight;
};

constexpr std::array<Named, static_cast<size_t>(Kind::count)> kKinds = {{
    {"read", 8},       {"write", 12},     {"append", 4},      {"pwritev2", 4},
    {"map_read", 6},   {"map_write", 8},  {"private_map", 2}, {"beyond_end", 3},
    {"truncate", 8},   {"punch", 6},      {"zero", 6},        {"allocate", 4},
    {"collapse", 1},   {"copy", 6},       {"direct_read", 4}, {"direct_write", 5},
    {"direct_odd", 2}, {"sync_write", 2}, {"pipe_read", 2},   {"pipe_write", 2},
    {"send_file", 2},  {"reopen", 3},     {"sync", 3},        {"sync_all", 1},
    {"drop", 4},       {"seek", 5},       {"compare", 2},
}};

Kind draw_kind(Random& random) {
  unsigned total = 0;
  for (const Named& kind : kKinds) total += kind.weight;
  uint64_t dice = random.below(total);
  for (size_t i = 0;; ++i) {
    if (dice < kKinds[i].weight) return static_cast<Kind>(i);
    dice -= kKinds[i].weight;
  }
}

}  // namespace

std::string Operation::describe() const {
  std::string text = "#" + std::to_string(number) + " " + kKinds[static_cast<size_t>(kind)].name +
                     " file" + std::to_string(file) + " [" + std::to_string(offset) + ", " +
                     std::to_string(end()) + ")";
  if (kind == Kind::copy || kind == Kind::send_file) {
    text += " to file" + std::to_string(other) + " at " + std::to_string(other_offset);
  }
  return flag ? text + " flag" : text;
}

uint64_t Planner::draw_length() {
  switch (random_.below(6)) {
    case 0:
      return 1 + random_.below(64);
    case 1:
      return 1 + random_.below(kBlock);
    case 2:
      return kBlock * (1 + random_.below(4));
    case 3:
      return 1 + random_.below(128 * 1024);
    default:
      return 1 + random_.below(16 * 1024);
  }
}

/// Anywhere up to the largest size; often near a block's or the file's end.
uint64_t Planner::draw_offset(const FileModel& model) {
  const uint64_t anywhere = random_.below(max_size_);
  const uint64_t nudge = random_.below(9);
  uint64_t at = anywhere;
  switch (random_.below(5)) {
    case 0:
      at = anywhere / kBlock * kBlock;
      break;
    case 1:
      at = anywhere / kBlock * kBlock + nudge;
      at -= std::min<uint64_t>(at, 4);
      break;
    case 2:
      at = model.size() + nudge;
      at -= std::min<uint64_t>(at, 4);
      break;
    case 3:
      at = random_.below(model.size() + 1);
      break;
    default:
      break;
  }
  return std::min(at, max_size_ - 1);
}

/// What reads: within the file, or a little beyond.
void Planner::place_within(Operation& op, const FileModel& model) {
  op.offset = random_.below(model.size() + 1);
  if (random_.one_in(3)) op.offset = op.offset / kBlock * kBlock;
  op.length = draw_length();
}

void Planner::place_change(Operation& op, const FileModel& model) {
  op.offset = draw_offset(model);
  op.length = std::min(draw_length(), max_size_ - op.offset);
}

void Planner::place_aligned(Operation& op) {
  op.offset = random_.below(max_size_ / kBlock) * kBlock;
  op.length = std::min(kBlock * (1 + random_.below(16)), max_size_ / kBlock * kBlock - op.offset);
}

void Planner::place_copy(Operation& op, const Models& models) {
  const FileModel& from = models[static_cast<size_t>(op.file)];
  op.other = random_.one_in(3) ? op.file : 1 - op.file;
  op.offset = random_.below(from.size() + 1);
  op.other_offset = draw_offset(models[static_cast<size_t>(op.other)]);
  if (random_.one_in(2)) {
    op.offset = op.offset / kBlock * kBlock;
    op.other_offset = op.other_offset / kBlock * kBlock;
  }
  op.length = std::min({draw_length(), max_size_ - op.other_offset, from.size() - op.offset});
  if (op.other == op.file) {  // not over itself
    const uint64_t apart =
        op.offset < op.other_offset ? op.other_offset - op.offset : op.offset - op.other_offset;
    op.length = std::min(op.length, apart);
  }
}

Operation Planner::next(const Models& models) {
  Operation op;
  op.number = number_++;
  op.kind = draw_kind(random_);
  op.file = random_.one_in(3) ? 1 : 0;
  op.flag = random_.one_in(2);
  const FileModel& model = models[static_cast<size_t>(op.file)];
  switch (op.kind) {
    case Kind::read:
    case Kind::map_read:
    case Kind::private_map:
    case Kind::direct_read:
    case Kind::pipe_read:
      place_within(op, model);
      break;
    case Kind::map_write:
      place_within(op, model);
      op.length = std::min(op.length, model.size() - op.offset);
      break;
    case Kind::append:
      op.offset = model.size();
      op.length = std::min(draw_length(), max_size_ - op.offset);
      break;
    case Kind::truncate:
      op.offset = random_.one_in(8) ? 0 : draw_offset(model);
      break;
    case Kind::direct_write:
      place_aligned(op);
      break;
    case Kind::copy:
    case Kind::send_file:
      place_copy(op, models);
      break;
    default:
      place_change(op, model);
      break;
  }
  return op;
}

void apply(const Operation& op, Models& models, bool durable) {
  FileModel& model = models[static_cast<size_t>(op.file)];
  switch (op.kind) {
    case Kind::write:
    case Kind::append:
    case Kind::direct_write:
    case Kind::pipe_write:
      model.write(op.offset, pattern(op.number, op.offset, op.length));
      break;
    case Kind::map_write:
    case Kind::write_vector:
    case Kind::sync_write:
      model.write(op.offset, pattern(op.number, op.offset, op.length));
      if (durable && (op.kind == Kind::sync_write || op.flag)) model.synced(op.offset, op.end());
      break;
    case Kind::direct_odd:
      if (op.flag) model.write(op.offset, pattern(op.number, op.offset, op.length));
      break;
    case Kind::truncate:
      model.resize(op.offset);
      break;
    case Kind::punch:
      model.punch(op.offset, op.end());
      break;
    case Kind::zero:
      model.zero_range(op.offset, op.end(), op.flag);
      break;
    case Kind::allocate:
      model.allocate(op.end(), op.flag);
      break;
    case Kind::copy:
    case Kind::send_file:
      models[static_cast<size_t>(op.other)].copy(op.other_offset,
                                                 model.bytes().substr(op.offset, op.length));
      break;
    case Kind::sync:
      if (durable) model.synced();
      break;
    case Kind::sync_all:
      for (FileModel& each : models) {
        if (durable) each.synced();
      }
      break;
    default:
      break;
  }
}

}  // namespace e2e
