// SPDX-License-Identifier: MIT
// Simulated devices: see the header.
#include "test/sim/sim_disk.h"

#include <algorithm>
#include <cstring>

#include "alloc/base/assert.h"

namespace moltfs::sim {

void PageImage::read(uint64_t offset, Bytes into) const {
  uint64_t done = 0;
  while (done < into.size()) {
    const uint64_t at = offset + done, in_page = at % kPage;
    const uint64_t n = std::min<uint64_t>(kPage - in_page, into.size() - done);
    const auto found = pages_.find(at / kPage);
    if (found == pages_.end()) {
      std::memset(into.data() + done, 0, n);
    } else {
      std::memcpy(into.data() + done, found->second->data() + in_page, n);
    }
    done += n;
  }
}

void PageImage::write(uint64_t offset, ConstBytes from) {
  uint64_t done = 0;
  while (done < from.size()) {
    const uint64_t at = offset + done, in_page = at % kPage;
    const uint64_t n = std::min<uint64_t>(kPage - in_page, from.size() - done);
    auto& page = pages_[at / kPage];
    if (page == nullptr) {
      page = std::make_shared<Page>();  // zeros
    } else if (page.use_count() > 1) {
      page = std::make_shared<Page>(*page);
    }
    std::memcpy(page->data() + in_page, from.data() + done, n);
    done += n;
  }
}

void PageImage::zero(uint64_t offset, uint64_t length) {
  pages_.erase(pages_.lower_bound(offset / kPage), pages_.lower_bound((offset + length) / kPage));
}

bool PageImage::operator==(const PageImage& other) const {
  auto contained = [](const PageImage& a, const PageImage& b) {
    static const Page zeros{};
    for (const auto& [number, page] : a.pages_) {
      const auto found = b.pages_.find(number);
      const Page& theirs = found == b.pages_.end() ? zeros : *found->second;
      if (std::memcmp(page->data(), theirs.data(), kPage) != 0) return false;
    }
    return true;
  };
  return contained(*this, other) && contained(other, *this);
}

namespace {

class SimDevice final : public alloc::Device {
 public:
  SimDevice(Disk& disk, bool read_only, bool exclusive)
      : disk_(disk), read_only_(read_only), exclusive_(exclusive) {
    if (exclusive_) disk_.open_exclusively = true;
  }
  ~SimDevice() override {
    if (exclusive_) disk_.open_exclusively = false;
  }
  const std::string& path() const override { return disk_.name; }
  uint64_t size_bytes() const override { return disk_.size_bytes; }
  uint32_t sector_size() const override { return 512; }
  bool read_only() const override { return read_only_; }
  bool can_discard() const override { return true; }
  Disk& disk() { return disk_; }

 private:
  Disk& disk_;
  bool read_only_, exclusive_;
};

Disk& disk_of(const alloc::IoRequest& request) {
  return static_cast<SimDevice*>(request.device)->disk();
}

void apply(PageImage& image, const Disk::Write& write) {
  if (write.discard) {
    image.zero(write.offset, write.discard_length);
  } else {
    image.write(write.offset, write.bytes);
  }
}

}  // namespace

SimDevices::SimDevices(Scheduler& scheduler) : scheduler_(scheduler) {}
SimDevices::~SimDevices() = default;

Disk& SimDevices::add(const std::string& name, uint64_t size_bytes) {
  auto disk = std::make_unique<Disk>();
  disk->name = name;
  disk->size_bytes = size_bytes;
  return *(disks_[name] = std::move(disk));
}

Disk& SimDevices::disk(const std::string& name) {
  return *disks_.at(name);
}

void SimDevices::copy_disk(const std::string& from, SimDevices& to, const std::string& name) const {
  auto disk = std::make_unique<Disk>(*disks_.at(from));
  disk->name = name;
  disk->open_exclusively = false;
  disk->dead = false;
  disk->fail_probability = 0;
  to.disks_[name] = std::move(disk);
}

void SimDevices::cut_power() {
  scheduler_.note("power cut");
  power_ = false;
}

void SimDevices::restore_power() {
  for (auto& [name, disk] : disks_) {
    ASSERT(!disk->open_exclusively);
    lose_cache(name);
  }
  power_ = true;
}

void SimDevices::lose_cache(const std::string& name) {
  Disk& disk = *disks_.at(name);
  // Most cuts lose all or keep all; some decide for each write.
  const uint64_t mood = scheduler_.random(4);
  for (auto& write : disk.unflushed) {
    const bool keep = mood == 0 ? false : mood == 1 ? true : scheduler_.random(2) == 0;
    if (!keep) continue;
    if (!write.discard && mood == 3 && scheduler_.random(4) == 0) {
      // Torn: any subset of its sectors.
      for (uint64_t at = 0; at < write.bytes.size(); at += 512) {
        if (scheduler_.random(2) == 0) continue;
        const uint64_t n = std::min<uint64_t>(512, write.bytes.size() - at);
        disk.durable.write(write.offset + at, ConstBytes(write.bytes).subspan(at, n));
      }
      continue;
    }
    apply(disk.durable, write);
  }
  disk.unflushed.clear();
  disk.current = disk.durable;
}

Result<std::shared_ptr<alloc::Device>> SimDevices::open(const std::string& path,
                                                        const Options& options) {
  const auto found = disks_.find(path);
  if (found == disks_.end()) return Error(Errc::not_found, path + ": no such device");
  Disk& disk = *found->second;
  if (disk.dead || !power_) return Error(Errc::io_error, path + ": dead");
  if (options.exclusive && disk.open_exclusively) {
    return Error(Errc::device_in_use, path + " is in use");
  }
  return std::static_pointer_cast<alloc::Device>(
      std::make_shared<SimDevice>(disk, options.read_only, options.exclusive));
}

Result<std::optional<std::string>> SimDevices::signature(alloc::Device& device) {
  static constexpr char kMagic[] = "MOLTFS\0\1";
  std::array<std::byte, 8> bytes{};
  static_cast<SimDevice&>(device).disk().current.read(65536, bytes);
  if (std::memcmp(bytes.data(), kMagic, 8) == 0) return std::optional<std::string>("moltfs");
  return std::optional<std::string>();
}

std::vector<std::string> SimDevices::candidates() {
  std::vector<std::string> names;
  for (const auto& [name, disk] : disks_) names.push_back(name);
  return names;
}

void SimDevices::run(std::span<alloc::IoRequest> requests) {
  if (requests.empty()) return;
  size_t pending = requests.size();
  bool waiting = false;
  Scheduler::Fiber* self = scheduler_.current();
  for (auto& request : requests) {
    // A flush covers what had completed when it was issued.
    const uint64_t horizon = next_write_;
    const auto latency = Nanoseconds(scheduler_.chance(0.02) ? scheduler_.random(20'000'000)
                                                             : 20'000 + scheduler_.random(200'000));
    const auto held = hold_ ? hold_(disk_of(request), request) : Nanoseconds(0);
    scheduler_.at(scheduler_.now() + latency + held,
                  [this, &request, horizon, &pending, &waiting, self] {
                    complete(request, horizon);
                    if (--pending == 0 && waiting) scheduler_.unblock(self, true);
                  });
  }
  waiting = true;
  scheduler_.block();
}

void SimDevices::complete(alloc::IoRequest& request, uint64_t flush_horizon) {
  Disk& disk = disk_of(request);
  auto& counters = request.device->counters();
  scheduler_.note("io", static_cast<uint64_t>(request.op), request.offset);
  auto fail = [&](Errc code) {
    request.result = Error(code, DeviceId(0), request.offset);
    if (request.op == alloc::IoOp::read) ++counters.read_errors;
    if (request.op == alloc::IoOp::write) ++counters.write_errors;
    if (request.op != alloc::IoOp::flush) return;
    ++counters.flush_errors;
    if (!power_) return;
    // As real disks do: what a failed flush should have saved may never be saved by a later one.
    std::erase_if(disk.unflushed, [this](const Disk::Write&) { return scheduler_.random(2) == 0; });
  };
  ++disk.requests;
  if (!power_ || disk.dead) return fail(Errc::io_error);
  if (disk.fail_at != 0 && --disk.fail_at == 0) return fail(Errc::io_error);
  if (disk.fail_probability > 0 && !(disk.fail_writes_only && request.op == alloc::IoOp::read) &&
      scheduler_.chance(disk.fail_probability)) {
    return fail(Errc::io_error);
  }
  if (fault_) {
    if (auto verdict = fault_(disk, request); !verdict) return fail(verdict.error().code);
  }
  if (request.op != alloc::IoOp::flush) {
    ASSERT(request.offset % kBlockSize == 0 && request.length % kBlockSize == 0);
    if (request.offset + request.length > disk.size_bytes) return fail(Errc::io_error);
  }
  request.result = ok();
  const ConstBytes bytes(request.data, request.data == nullptr ? 0 : request.length);
  switch (request.op) {
    case alloc::IoOp::read:
      disk.current.read(request.offset, {request.data, request.length});
      ++counters.reads;
      counters.read_bytes += request.length;
      if (observer_) observer_(disk, DiskEvent::read, request.offset, bytes);
      if (spoil_) spoil_(disk, request.offset, {request.data, request.length});
      break;
    case alloc::IoOp::write:
      if (observer_) observer_(disk, DiskEvent::write, request.offset, bytes);
      disk.current.write(request.offset, bytes);
      disk.unflushed.push_back(
          {next_write_++, request.offset, {bytes.begin(), bytes.end()}, false, 0});
      disk.written_bytes += request.length;
      ++counters.writes;
      counters.written_bytes += request.length;
      break;
    case alloc::IoOp::discard:
      disk.current.zero(request.offset, request.length);
      disk.unflushed.push_back({next_write_++, request.offset, {}, true, request.length});
      counters.discarded_bytes += request.length;
      if (observer_) observer_(disk, DiskEvent::discard, request.offset, {});
      break;
    case alloc::IoOp::flush: {
      auto& writes = disk.unflushed;
      const auto covered = [flush_horizon](const Disk::Write& w) { return w.id < flush_horizon; };
      for (const auto& write : writes) {
        if (covered(write)) apply(disk.durable, write);
      }
      writes.erase(std::remove_if(writes.begin(), writes.end(), covered), writes.end());
      ++counters.flushes;
      if (observer_) observer_(disk, DiskEvent::flush, 0, {});
      break;
    }
  }
}

}  // namespace moltfs::sim
