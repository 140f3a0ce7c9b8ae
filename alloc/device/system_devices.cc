// SPDX-License-Identifier: MIT
// Choosing an engine, and listing block devices.
#include "alloc/device/system_devices.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <sstream>
#include <tuple>

#include "alloc/base/log.h"
#include "alloc/device/file_device.h"
#include "alloc/device/signature.h"
#include "alloc/device/thread_engine.h"
#include "alloc/device/uring_engine.h"

namespace moltfs::alloc {
namespace {

constexpr unsigned kEngineThreads = 8;

std::unique_ptr<IoEngine> choose_engine(Runtime& runtime) {
  const char* const variable = std::getenv("MOLTFS_IO_ENGINE");
  const std::string_view asked = variable == nullptr ? "" : variable;
  if (!asked.empty() && asked != "io_uring" && asked != "threads") {
    log_warning("MOLTFS_IO_ENGINE={} is ignored: expected io_uring or threads", asked);
  }
  if (asked != "threads") {
    if (auto engine = make_uring_engine()) {
      log_info("device I/O uses io_uring");
      return engine;
    }
    log_info("device I/O uses threads: io_uring cannot be used here ({})", text_of_errno(errno));
  } else {
    log_info("device I/O uses threads, as MOLTFS_IO_ENGINE asks");
  }
  return make_thread_engine(runtime, kEngineThreads);
}

class SystemDevices final : public DeviceOpener {
 public:
  explicit SystemDevices(Runtime& runtime) : runtime_(runtime) {}

  Result<std::shared_ptr<Device>> open(const std::string& path, const Options& options) override {
    TRY(auto device, FileDevice::open(path, options));
    return std::shared_ptr<Device>(std::move(device));
  }

  Result<std::shared_ptr<Device>> adopt(std::vector<int> descriptors, const std::string& path,
                                        const Options& options) override {
    TRY(auto device, FileDevice::adopt(std::move(descriptors), path, options));
    return std::shared_ptr<Device>(std::move(device));
  }

  IoEngine& engine() override {
    std::lock_guard lock(mutex_);
    if (engine_ == nullptr) engine_ = choose_engine(runtime_);
    return *engine_;
  }

  Result<std::optional<std::string>> signature(Device& device) override {
    TRY(auto own, own_signature(engine(), device));
    if (own) return own;
    return foreign_signature(static_cast<FileDevice&>(device).fd(), device.path());
  }

  std::vector<std::string> candidates() override;

 private:
  Runtime& runtime_;
  std::mutex mutex_;
  std::unique_ptr<IoEngine> engine_;  // guarded by mutex_ until it is set; never changes then
};

std::vector<std::string> SystemDevices::candidates() {
  std::vector<std::tuple<unsigned, unsigned, std::string>> found;
  std::ifstream partitions("/proc/partitions");
  std::string line;
  while (std::getline(partitions, line)) {
    // "major minor #blocks name"; the heading and the empty line after it do not parse.
    std::istringstream fields(line);
    unsigned major = 0, minor = 0;
    uint64_t blocks = 0;
    std::string name;
    if (!(fields >> major >> minor >> blocks >> name) || blocks == 0) continue;
    std::replace(name.begin(), name.end(), '!', '/');
    const std::string path = "/dev/" + name;
    struct stat status;
    if (stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode)) {
      found.emplace_back(major, minor, path);
    }
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> paths;
  for (auto& [major, minor, path] : found) paths.push_back(std::move(path));
  return paths;
}

}  // namespace

std::vector<int> descriptors_of(const Device& device) {
  const auto* const file = dynamic_cast<const FileDevice*>(&device);
  if (file == nullptr) return {};
  std::vector<int> descriptors = {file->fd()};
  for (const Descriptor& claim : file->claims()) descriptors.push_back(claim.get());
  return descriptors;
}

std::unique_ptr<DeviceOpener> make_system_devices(Runtime& runtime) {
  return std::make_unique<SystemDevices>(runtime);
}

}  // namespace moltfs::alloc
