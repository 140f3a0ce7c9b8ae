// SPDX-License-Identifier: MIT
// Simulated devices. They complete requests in any order. They keep unflushed writes in a volatile
// cache, of which a power cut leaves any subset (whole or torn at 512 bytes). They fail, rot and
// die.
//
// A Disk is the medium: it survives crashes and mounts. A SimDevice is an open handle of it, which
// is lost when the power goes. SimDevices is the DeviceOpener and IoEngine over named disks.
//
// Durability is that of real devices: a write is durable only if a flush was *issued after the
// write had completed* and that flush succeeded. An observer sees every completed request.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "alloc/device/device.h"
#include "test/sim/scheduler.h"

namespace moltfs::sim {

inline constexpr uint64_t kPage = 4096;

/// Sparse bytes; pages never written read as zeros.
class PageImage {
 public:
  using Page = std::array<std::byte, kPage>;
  void read(uint64_t offset, Bytes into) const;
  void write(uint64_t offset, ConstBytes from);  ///< any alignment
  void zero(uint64_t offset, uint64_t length);   ///< page-aligned
  /// Every page that was written, ascending.
  template <class F>
  void for_each(F visit) const {
    for (const auto& [number, page] : pages_) visit(number * kPage, *page);
  }
  /// Of those, the ones that lie in the range; page-aligned.
  template <class F>
  void for_each_in(uint64_t offset, uint64_t length, F visit) const {
    const auto end = pages_.lower_bound((offset + length) / kPage);
    for (auto at = pages_.lower_bound(offset / kPage); at != end; ++at) {
      visit(at->first * kPage, *at->second);
    }
  }
  uint64_t used_bytes() const { return pages_.size() * kPage; }
  bool operator==(const PageImage& other) const;

 private:
  std::map<uint64_t, std::shared_ptr<Page>> pages_;  // shared between copies until written
};

struct Disk {
  std::string name;
  uint64_t size_bytes = 0;
  PageImage durable;  ///< what survives a power cut for sure
  PageImage current;  ///< what reads see

  struct Write {
    uint64_t id = 0, offset = 0;
    std::vector<std::byte> bytes;
    bool discard = false;
    uint64_t discard_length = 0;
  };
  std::vector<Write> unflushed;  ///< completed, not yet durable, in order of completion

  bool open_exclusively = false;
  // Its faults.
  bool dead = false;            ///< every request fails
  double fail_probability = 0;  ///< each request, by itself
  bool fail_writes_only = false;
  uint64_t fail_at = 0;  ///< counted from now, this request fails (0: none)
  uint64_t requests = 0;

  uint64_t written_bytes = 0;
};

enum class DiskEvent : uint8_t { read, write, flush, discard };

class SimDevices final : public alloc::DeviceOpener, public alloc::IoEngine {
 public:
  explicit SimDevices(Scheduler& scheduler);
  ~SimDevices() override;

  Disk& add(const std::string& name, uint64_t size_bytes);
  Disk& disk(const std::string& name);
  bool has(const std::string& name) const { return disks_.count(name) != 0; }
  void remove(const std::string& name) { disks_.erase(name); }
  /// The same disks as they are now, with other open handles; for "the target alone".
  void copy_disk(const std::string& from, SimDevices& to, const std::string& name) const;

  /// From now on every request of every open handle fails and changes nothing.
  void cut_power();
  /// After a cut, when all handles are closed: each disk keeps a random subset of its unflushed
  /// writes, sometimes torn; the volatile cache is empty; the power is back.
  void restore_power();
  bool power() const { return power_; }
  /// The power of this disk alone was lost and is back.
  void lose_cache(const std::string& name);

  /// Called when a request completes successfully, a write just before it changes `current`.
  /// Never waits.
  using Observer = std::function<void(const Disk&, DiskEvent, uint64_t offset, ConstBytes bytes)>;
  void set_observer(Observer observer) { observer_ = std::move(observer); }
  /// Called before each request is started; an error makes it fail. Never waits.
  using Fault = std::function<Result<void>(Disk&, const alloc::IoRequest&)>;
  void set_fault(Fault fault) { fault_ = std::move(fault); }
  /// Called when a read completes, after the observer: may change what was read. Never waits.
  using Spoil = std::function<void(Disk&, uint64_t offset, Bytes bytes)>;
  void set_spoil(Spoil spoil) { spoil_ = std::move(spoil); }
  /// Called when a request is issued; returns how much longer than usual it takes. Never waits.
  using Hold = std::function<Nanoseconds(const Disk&, const alloc::IoRequest&)>;
  void set_hold(Hold hold) { hold_ = std::move(hold); }

  // alloc::DeviceOpener
  Result<std::shared_ptr<alloc::Device>> open(const std::string& path,
                                              const Options& options) override;
  alloc::IoEngine& engine() override { return *this; }
  Result<std::optional<std::string>> signature(alloc::Device& device) override;
  std::vector<std::string> candidates() override;

  // alloc::IoEngine
  void run(std::span<alloc::IoRequest> requests) override;
  std::string_view name() const override { return "simulated"; }

 private:
  void complete(alloc::IoRequest& request, uint64_t flush_horizon);

  Scheduler& scheduler_;
  std::map<std::string, std::unique_ptr<Disk>> disks_;
  bool power_ = true;
  uint64_t next_write_ = 1;
  Observer observer_;
  Fault fault_;
  Spoil spoil_;
  Hold hold_;
};

}  // namespace moltfs::sim
