// SPDX-License-Identifier: MIT
// Our own mark, and libblkid for those of all others.
#include "alloc/device/signature.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "alloc/device/file_device.h"

namespace moltfs::alloc {
namespace {

struct FreeProbe {
  void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<blkid_struct_probe, FreeProbe>;

class OpenFile {
 public:
  explicit OpenFile(int fd) : fd_(fd) {}
  ~OpenFile() {
    if (fd_ >= 0) close(fd_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const { return fd_; }

 private:
  const int fd_;
};

std::optional<std::string> value_of(blkid_probe probe, const char* name) {
  const char* value = nullptr;
  if (blkid_probe_lookup_value(probe, name, &value, nullptr) != 0) return std::nullopt;
  return std::string(value);
}

}  // namespace

Result<std::optional<std::string>> own_signature(IoEngine& engine, Device& device) {
  if (device.size_bytes() < kSignatureOffset + kBlockSize) return std::optional<std::string>();
  AlignedBuffer block(kBlockSize);
  TRY(engine.read(device, kSignatureOffset, block.span()));
  if (std::memcmp(block.data(), kSignature.data(), kSignature.size()) != 0) {
    return std::optional<std::string>();
  }
  return std::optional<std::string>("moltfs");
}

Result<std::optional<std::string>> foreign_signature(int fd, const std::string& path) {
  const auto failed = [&](int err) {
    return Error(errc_from_errno(err),
                 fmt::format("{}: looking for other filesystems: {}", path, text_of_errno(err)));
  };
  // libblkid reads without the alignment that direct I/O asks for: opened anew, without it.
  const OpenFile file(open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (file.fd() < 0) return failed(errno);
  const Probe probe(blkid_new_probe());
  if (probe == nullptr) return failed(ENOMEM);
  errno = 0;
  if (blkid_probe_set_device(probe.get(), file.fd(), 0, 0) != 0) {
    return failed(errno == 0 ? EIO : errno);
  }
  blkid_probe_enable_superblocks(probe.get(), 1);
  blkid_probe_set_superblocks_flags(probe.get(), BLKID_SUBLKS_TYPE | BLKID_SUBLKS_BADCSUM);
  blkid_probe_enable_partitions(probe.get(), 1);
  blkid_probe_set_partitions_flags(probe.get(), BLKID_PARTS_FORCE_GPT);

  // The first find will do: unlike blkid_do_safeprobe this takes a device on which several
  // filesystems left marks for what it is, not an empty one.
  for (;;) {
    errno = 0;
    const int found = blkid_do_probe(probe.get());
    if (found == 1) return std::optional<std::string>();
    if (found != 0) return failed(errno == 0 ? EIO : errno);
    for (const char* name : {"TYPE", "PTTYPE"}) {
      if (auto value = value_of(probe.get(), name)) return value;
    }
  }
}

}  // namespace moltfs::alloc
