// SPDX-License-Identifier: MIT
// Single requests to an engine, and an opener without descriptors.
#include "alloc/device/device.h"

#include <fmt/format.h>
#include <unistd.h>

namespace moltfs::alloc {
namespace {

Result<void> run_one(IoEngine& engine, IoRequest request) {
  engine.run({&request, 1});
  return std::move(request.result);
}

}  // namespace

Result<void> IoEngine::read(Device& device, uint64_t offset, Bytes into) {
  return run_one(*this, IoRequest::make_read(&device, offset, into));
}

Result<void> IoEngine::write(Device& device, uint64_t offset, ConstBytes from) {
  return run_one(*this, IoRequest::make_write(&device, offset, from));
}

Result<void> IoEngine::flush(Device& device) {
  return run_one(*this, IoRequest::make_flush(&device));
}

Result<void> IoEngine::discard(Device& device, uint64_t offset, uint64_t length) {
  return run_one(*this, IoRequest::make_discard(&device, offset, length));
}

Result<std::shared_ptr<Device>> DeviceOpener::adopt(std::vector<int> descriptors,
                                                    const std::string& path, const Options&) {
  for (const int descriptor : descriptors) close(descriptor);
  return Error(Errc::not_supported,
               fmt::format("{}: devices are not opened by descriptors here", path));
}

}  // namespace moltfs::alloc
