// SPDX-License-Identifier: MIT
// Private directories, image files and loop devices for tests; all are gone when their objects are.
#pragma once

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

#include "test/support/catch.h"

namespace moltfs::test {

/// A new directory, below `parent` (default: where temporary files go).
class ScratchDirectory {
 public:
  explicit ScratchDirectory(const std::string& parent = std::filesystem::temp_directory_path()) {
    std::string name = parent + "/moltfs-test-XXXXXX";
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~ScratchDirectory() {
    std::error_code error;
    if (!path_.empty()) std::filesystem::remove_all(path_, error);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }  ///< empty if it could not be made
  /// Makes a sparse file of `size_bytes`; returns its path.
  std::string image(const std::string& name, uint64_t size_bytes) const {
    const std::string file = path_ + "/" + name;
    const int fd = open(file.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) std::abort();
    close(fd);
    return file;
  }

 private:
  std::string path_;
};

/// A loop device on a file. Where that is not allowed (no root, containers) there is none.
class LoopDevice {
 public:
  static std::optional<LoopDevice> attach(const std::string& file, uint32_t sector_size = 512,
                                          bool read_only = false) {
    const int backing = open(file.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
    const int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    std::optional<LoopDevice> device;
    for (int attempt = 0; attempt < 100 && backing >= 0 && control >= 0 && !device; ++attempt) {
      const int number = ioctl(control, LOOP_CTL_GET_FREE);
      if (number < 0) break;
      LoopDevice candidate("/dev/loop" + std::to_string(number));
      if (candidate.fd_ < 0) break;
      loop_config config{};
      config.fd = static_cast<uint32_t>(backing);
      config.block_size = sector_size;
      // Goes with its last descriptor, so that a test that crashes leaves nothing behind.
      config.info.lo_flags = LO_FLAGS_AUTOCLEAR | (read_only ? LO_FLAGS_READ_ONLY : 0);
      if (ioctl(candidate.fd_, LOOP_CONFIGURE, &config) == 0) {
        device.emplace(std::move(candidate));
      } else if (errno != EBUSY) {  // EBUSY: somebody else was quicker
        break;
      }
    }
    if (backing >= 0) close(backing);
    if (control >= 0) close(control);
    return device;
  }

  LoopDevice(LoopDevice&& other) noexcept : path_(std::move(other.path_)), fd_(other.fd_) {
    other.fd_ = -1;
  }
  LoopDevice& operator=(LoopDevice&&) = delete;
  ~LoopDevice() {
    if (fd_ >= 0) close(fd_);
  }

  const std::string& path() const { return path_; }

 private:
  explicit LoopDevice(std::string path) : path_(std::move(path)) {
    fd_ = open(path_.c_str(), O_RDWR | O_CLOEXEC);
    if (fd_ < 0) fd_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  }

  std::string path_;
  int fd_ = -1;
};

}  // namespace moltfs::test

/// Ends a test case where there are no loop devices, with a warning.
#define REQUIRE_LOOP(device)                                      \
  if (!(device)) {                                                \
    WARN("no loop devices here (needs root): nothing is tested"); \
    return;                                                       \
  }
