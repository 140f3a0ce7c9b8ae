// SPDX-License-Identifier: MIT
// Our own signature, and libblkid for all others.
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

Error probe_error(const std::string& path, int err) {
  return Error(errc_from_errno(err),
               fmt::format("{}: looking for other filesystems: {}", path, text_of_errno(err)));
}

/// A libblkid probe of one device.
class Probe {
 public:
  Probe() = default;
  ~Probe() {
    if (probe_ != nullptr) blkid_free_probe(probe_);
    if (flags_ >= 0) fcntl(fd_, F_SETFL, flags_);
  }
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  /// While the probe exists, `fd` has no direct I/O, because libblkid does not align its reads. It
  /// is not opened a second time: the process may not have the right to.
  Result<void> open(int fd, const std::string& path);

  /// The next signature: its name; nothing if there is no further one. Unlike blkid_do_safeprobe
  /// this does not report a device with signatures of several filesystems as empty.
  Result<std::optional<std::string>> next();
  /// Overwrites the magic number of the signature that next() found; next() looks there again.
  Result<void> erase();

 private:
  std::optional<std::string> value_of(const char* name) const;

  std::string path_;
  int fd_ = -1;
  int flags_ = -1;  // of fd_ before
  blkid_probe probe_ = nullptr;
};

Result<void> Probe::open(int fd, const std::string& path) {
  path_ = path;
  fd_ = fd;
  flags_ = fcntl(fd_, F_GETFL);
  if (flags_ < 0 || fcntl(fd_, F_SETFL, flags_ & ~O_DIRECT) != 0) return probe_error(path_, errno);
  probe_ = blkid_new_probe();
  if (probe_ == nullptr) return probe_error(path_, ENOMEM);
  errno = 0;
  if (blkid_probe_set_device(probe_, fd_, 0, 0) != 0) {
    return probe_error(path_, errno == 0 ? EIO : errno);
  }
  blkid_probe_enable_superblocks(probe_, 1);
  blkid_probe_set_superblocks_flags(probe_,
                                    BLKID_SUBLKS_TYPE | BLKID_SUBLKS_BADCSUM | BLKID_SUBLKS_MAGIC);
  blkid_probe_enable_partitions(probe_, 1);
  blkid_probe_set_partitions_flags(probe_, BLKID_PARTS_FORCE_GPT | BLKID_PARTS_MAGIC);
  return ok();
}

std::optional<std::string> Probe::value_of(const char* name) const {
  const char* value = nullptr;
  if (blkid_probe_lookup_value(probe_, name, &value, nullptr) != 0) return std::nullopt;
  return std::string(value);
}

Result<std::optional<std::string>> Probe::next() {
  for (;;) {
    errno = 0;
    const int found = blkid_do_probe(probe_);
    if (found == 1) return std::optional<std::string>();
    if (found != 0) return probe_error(path_, errno == 0 ? EIO : errno);
    for (const char* name : {"TYPE", "PTTYPE"}) {
      if (auto value = value_of(name)) return value;
    }
  }
}

Result<void> Probe::erase() {
  errno = 0;
  if (blkid_do_wipe(probe_, 0) == 0) return ok();
  const int err = errno == 0 ? EIO : errno;
  return Error(errc_from_errno(err), fmt::format("{}: overwriting what another filesystem left: {}",
                                                 path_, text_of_errno(err)));
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
  Probe probe;
  TRY(probe.open(fd, path));
  return probe.next();
}

Result<void> erase_foreign_signatures(int fd, const std::string& path) {
  // Far more than a device can hold after its head and tail were wiped (wipe.cc).
  constexpr unsigned kMaxSignatures = 1000;
  Probe probe;
  TRY(probe.open(fd, path));
  std::string last;
  for (unsigned i = 0; i < kMaxSignatures; ++i) {
    TRY(const auto found, probe.next());
    if (!found) return ok();
    last = *found;
    TRY(probe.erase());
  }
  return Error(Errc::io_error,
               fmt::format("{}: the signature of {} stays after it was overwritten", path, last));
}

}  // namespace moltfs::alloc
