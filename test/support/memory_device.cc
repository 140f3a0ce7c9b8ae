// SPDX-License-Identifier: MIT
// Devices in memory.
#include "test/support/memory_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "alloc/base/assert.h"

namespace moltfs::test {

using alloc::Device;
using alloc::IoOp;
using alloc::IoRequest;

namespace {

/// Calls f(block number, offset in the block, offset in the range, length) for each block touched.
template <class F>
void for_each_block(uint64_t offset, uint64_t length, F f) {
  for (uint64_t done = 0; done < length;) {
    const uint64_t within = (offset + done) % kBlockSize;
    const uint64_t part = std::min(kBlockSize - within, length - done);
    f((offset + done) / kBlockSize, within, done, part);
    done += part;
  }
}

}  // namespace

void MemoryDisk::check_range(uint64_t offset, uint64_t length) const {
  ASSERT(offset <= size_bytes_ && length <= size_bytes_ - offset);
}

uint64_t MemoryDisk::stored_bytes() const {
  std::lock_guard lock(mutex_);
  return blocks_.size() * kBlockSize;
}

void MemoryDisk::read(uint64_t offset, Bytes into) const {
  check_range(offset, into.size());
  std::lock_guard lock(mutex_);
  for_each_block(offset, into.size(),
                 [&](uint64_t number, uint64_t within, uint64_t at, uint64_t n) {
                   const auto found = blocks_.find(number);
                   if (found == blocks_.end()) {
                     std::memset(into.data() + at, 0, n);
                   } else {
                     std::memcpy(into.data() + at, found->second->data() + within, n);
                   }
                 });
}

void MemoryDisk::write(uint64_t offset, ConstBytes from) {
  check_range(offset, from.size());
  std::lock_guard lock(mutex_);
  for_each_block(offset, from.size(),
                 [&](uint64_t number, uint64_t within, uint64_t at, uint64_t n) {
                   auto& block = blocks_[number];
                   if (block == nullptr) {
                     block = std::make_shared<Block>();
                   } else if (block.use_count() > 1) {
                     block = std::make_shared<Block>(*block);
                   }
                   std::memcpy(block->data() + within, from.data() + at, n);
                 });
}

void MemoryDisk::discard(uint64_t offset, uint64_t length) {
  check_range(offset, length);
  std::lock_guard lock(mutex_);
  const uint64_t first = round_up(offset, kBlockSize) / kBlockSize;
  const uint64_t end = (offset + length) / kBlockSize;
  if (first < end) blocks_.erase(blocks_.lower_bound(first), blocks_.lower_bound(end));
}

void MemoryDisk::corrupt(uint64_t offset, uint64_t length) {
  std::vector<std::byte> bytes(length);
  read(offset, bytes);
  for (std::byte& byte : bytes) byte = ~byte;
  write(offset, bytes);
}

std::shared_ptr<MemoryDisk> MemoryDisk::clone() const {
  auto copy = std::make_shared<MemoryDisk>(size_bytes_, sector_size_);
  std::lock_guard lock(mutex_);
  copy->blocks_ = blocks_;
  return copy;
}

bool MemoryDisk::same_content(const MemoryDisk& other) const {
  if (this == &other) return true;
  if (size_bytes_ != other.size_bytes_) return false;
  const std::scoped_lock lock(mutex_, other.mutex_);
  const Block zero{};
  const auto covers = [&zero](const auto& some, const auto& others) {
    return std::all_of(some.begin(), some.end(), [&](const auto& entry) {
      const auto found = others.find(entry.first);
      return *entry.second == (found == others.end() ? zero : *found->second);
    });
  };
  return covers(blocks_, other.blocks_) && covers(other.blocks_, blocks_);
}

struct MemoryDevices::Slot {
  explicit Slot(std::shared_ptr<MemoryDisk> d) : disk(std::move(d)) {}
  const std::shared_ptr<MemoryDisk> disk;
  std::atomic<bool> exclusive{false};  // open exclusively
  std::atomic<bool> write_protected{false};
  std::atomic<bool> gone{false};
};

class MemoryDevices::OpenDevice final : public Device {
 public:
  OpenDevice(std::string path, std::shared_ptr<Slot> slot, const Options& options)
      : path_(std::move(path)), slot_(std::move(slot)), options_(options) {}
  ~OpenDevice() override {
    if (options_.exclusive) slot_->exclusive = false;
  }
  OpenDevice(const OpenDevice&) = delete;
  OpenDevice& operator=(const OpenDevice&) = delete;

  const std::string& path() const override { return path_; }
  uint64_t size_bytes() const override { return round_down(disk().size_bytes(), kBlockSize); }
  uint32_t sector_size() const override { return disk().sector_size(); }
  bool read_only() const override { return options_.read_only; }
  bool can_discard() const override { return !options_.read_only; }

  MemoryDisk& disk() const { return *slot_->disk; }
  bool gone() const { return slot_->gone; }

 private:
  const std::string path_;
  const std::shared_ptr<Slot> slot_;
  const Options options_;
};

MemoryDevices::MemoryDevices() = default;
MemoryDevices::~MemoryDevices() = default;

MemoryDisk& MemoryDevices::add(const std::string& path, uint64_t size_bytes, uint32_t sector_size) {
  insert(path, std::make_shared<MemoryDisk>(size_bytes, sector_size));
  return disk(path);
}

void MemoryDevices::insert(const std::string& path, std::shared_ptr<MemoryDisk> disk) {
  remove(path);
  std::lock_guard lock(mutex_);
  slots_[path] = std::make_shared<Slot>(std::move(disk));
}

void MemoryDevices::remove(const std::string& path) {
  std::lock_guard lock(mutex_);
  const auto found = slots_.find(path);
  if (found == slots_.end()) return;
  found->second->gone = true;
  slots_.erase(found);
}

MemoryDevices::Slot& MemoryDevices::slot(const std::string& path) {
  const auto found = slots_.find(path);
  ASSERT(found != slots_.end());
  return *found->second;
}

std::shared_ptr<MemoryDisk> MemoryDevices::disk_pointer(const std::string& path) {
  std::lock_guard lock(mutex_);
  return slot(path).disk;
}

MemoryDisk& MemoryDevices::disk(const std::string& path) {
  return *disk_pointer(path);
}

void MemoryDevices::write_protect(const std::string& path, bool on) {
  std::lock_guard lock(mutex_);
  slot(path).write_protected = on;
}

void MemoryDevices::set_hook(Hook hook) {
  auto next = hook ? std::make_shared<const Hook>(std::move(hook)) : nullptr;
  std::lock_guard lock(mutex_);
  hook_.swap(next);
}

Result<std::shared_ptr<Device>> MemoryDevices::open(const std::string& path,
                                                    const Options& options) {
  std::lock_guard lock(mutex_);
  const auto found = slots_.find(path);
  if (found == slots_.end()) {
    return Error(Errc::not_found, fmt::format("{}: no such device", path));
  }
  Slot& slot = *found->second;
  if (slot.write_protected && !options.read_only) {
    return Error(Errc::device_read_only, fmt::format("{}: is write-protected", path));
  }
  if (options.exclusive && slot.exclusive.exchange(true)) {
    return Error(Errc::device_in_use, fmt::format("{}: is in use", path));
  }
  return std::shared_ptr<Device>(std::make_shared<OpenDevice>(path, found->second, options));
}

Result<std::optional<std::string>> MemoryDevices::signature(Device& device) {
  if (device.size_bytes() < alloc::kSignatureOffset + kBlockSize) {
    return std::optional<std::string>();
  }
  AlignedBuffer block(kBlockSize);
  TRY(read(device, alloc::kSignatureOffset, block.span()));
  const bool ours = std::memcmp(block.data(), alloc::kSignature.data(), 8) == 0;
  return ours ? std::optional<std::string>("moltfs") : std::nullopt;
}

std::vector<std::string> MemoryDevices::candidates() {
  std::lock_guard lock(mutex_);
  std::vector<std::string> paths;
  for (const auto& [path, slot] : slots_) paths.push_back(path);
  return paths;
}

void MemoryDevices::run(std::span<IoRequest> requests) {
  std::shared_ptr<const Hook> hook;
  {
    std::lock_guard lock(mutex_);
    hook = hook_;
  }
  for (IoRequest& request : requests) {
    request.result = run_one(request, hook == nullptr ? Hook() : *hook);
    if (request.result.has_value()) continue;
    auto& counters = request.device->counters();
    if (request.op == IoOp::read) ++counters.read_errors;
    if (request.op == IoOp::write || request.op == IoOp::discard) ++counters.write_errors;
    if (request.op == IoOp::flush) ++counters.flush_errors;
  }
}

Result<void> MemoryDevices::run_one(IoRequest& request, const Hook& hook) {
  auto& device = static_cast<OpenDevice&>(*request.device);
  auto& counters = device.counters();
  const uint64_t offset = request.offset, length = request.length;
  ASSERT(offset % kBlockSize == 0 && length % kBlockSize == 0);
  ASSERT(request.data == nullptr || is_aligned(request.data));
  if (device.gone()) return Error(Errc::device_gone, device.path() + ": is gone");
  if (hook) {
    TRY(hook(request));
  }
  if (offset > device.size_bytes() || length > device.size_bytes() - offset) {
    return Error(Errc::io_error,
                 fmt::format("{}: offset {} is past the end", device.path(), offset));
  }
  const bool changes = request.op == IoOp::write || request.op == IoOp::discard;
  if (changes && device.read_only()) {
    return Error(Errc::device_read_only, device.path() + ": is open read-only");
  }
  switch (request.op) {
    case IoOp::read:
      device.disk().read(offset, {request.data, length});
      ++counters.reads;
      counters.read_bytes += length;
      break;
    case IoOp::write:
      device.disk().write(offset, {request.data, length});
      ++counters.writes;
      counters.written_bytes += length;
      break;
    case IoOp::flush:
      ++counters.flushes;
      break;
    case IoOp::discard:
      device.disk().discard(offset, length);
      counters.discarded_bytes += length;
      break;
  }
  return ok();
}

}  // namespace moltfs::test
