// SPDX-License-Identifier: MIT
// The daemon's end of the broker (broker_server.h).
#pragma once

#include <sys/types.h>

#include <atomic>
#include <memory>
#include <string>

#include "alloc/base/log.h"
#include "alloc/base/uuid.h"
#include "alloc/device/device.h"
#include "fs/daemon/unmount.h"
#include "fs/mount/broker.h"

namespace moltfs::fs::daemon {

/// All functions may be called by any thread. If there is no broker, they fail with not_supported.
class BrokerProcess final : public Broker {
 public:
  BrokerProcess() = default;
  ~BrokerProcess() override { stop(); }
  BrokerProcess(const BrokerProcess&) = delete;
  BrokerProcess& operator=(const BrokerProcess&) = delete;

  /// Starts the process. If that fails, a warning is logged. To be called before requests come.
  void start(const Uuid& volume);
  /// Uses a broker that somebody else has started (tests).
  void connect(int socket) { socket_ = socket; }
  void stop();
  bool is_running() const { return socket_ >= 0; }

  Result<void> check_admin(const CallingProcess& caller) override;
  Result<std::vector<uint32_t>> groups_of(const CallingProcess& caller) override;
  Result<std::vector<int>> open_blank(const CallingProcess& caller,
                                      const std::string& path) override;
  Result<std::vector<int>> take_target(const CallingProcess& caller, int number,
                                       const std::string& path) override;
  /// A device of the daemon's volume, for DeviceOpener::adopt. Errors: those of opening it;
  /// not_found if it is not one.
  Result<std::vector<int>> open_own(const std::string& path, bool read_only, bool exclusive);
  /// DeviceOpener::candidates.
  std::vector<std::string> candidates();
  /// Tells the device number of the mount ("0:57") and the mount point, for what follows.
  void mounted(const std::string& device_number, const std::string& mountpoint);
  /// write_back_cache() of the mount point.
  Result<void> write_back();
  /// remove_from_utab_if_unmounted() of the mount point.
  Result<void> forget_mount();
  /// Writes a line to the system's log. Does not wait: a line may be lost.
  void log(LogLevel level, const std::string& text);
  /// unmount_everywhere() for the daemon's filesystem.
  Result<UnmountedEverywhere> unmount();

 private:
  int socket_ = -1;
  pid_t process_ = -1;
};

/// Opens devices itself until confine() is called, then by the broker: only devices of the volume.
class ConfinedDevices final : public alloc::DeviceOpener {
 public:
  ConfinedDevices(std::unique_ptr<alloc::DeviceOpener> devices, BrokerProcess& broker)
      : devices_(std::move(devices)), broker_(broker) {}
  /// No other thread may use this meanwhile.
  void confine() { is_confined_ = true; }

  Result<std::shared_ptr<alloc::Device>> open(const std::string& path,
                                              const Options& options) override;
  Result<std::shared_ptr<alloc::Device>> adopt(std::vector<int> descriptors,
                                               const std::string& path,
                                               const Options& options) override {
    return devices_->adopt(std::move(descriptors), path, options);
  }
  alloc::IoEngine& engine() override { return devices_->engine(); }
  Result<std::optional<std::string>> signature(alloc::Device& device) override {
    return devices_->signature(device);
  }
  std::vector<std::string> candidates() override {
    return is_confined_ ? broker_.candidates() : devices_->candidates();
  }

 private:
  std::unique_ptr<alloc::DeviceOpener> devices_;
  BrokerProcess& broker_;
  std::atomic<bool> is_confined_ = false;
};

}  // namespace moltfs::fs::daemon
