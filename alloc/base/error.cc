// SPDX-License-Identifier: MIT
// The one table of errors: code, errno, sentence.
#include "alloc/base/error.h"

#include <fmt/format.h>

#include <cerrno>
#include <iterator>
#include <system_error>

#include "alloc/base/assert.h"

namespace moltfs {
namespace {

struct Row {
  Errc code;
  int err;
  std::string_view sentence;
};

constexpr Row kTable[] = {
    // Answers: given to the caller, not logged.
    {Errc::not_found, ENOENT, "no such file or directory"},
    {Errc::already_exists, EEXIST, "already exists"},
    {Errc::not_a_directory, ENOTDIR, "not a directory"},
    {Errc::is_a_directory, EISDIR, "is a directory"},
    {Errc::directory_not_empty, ENOTEMPTY, "the directory is not empty"},
    {Errc::name_too_long, ENAMETOOLONG, "the name is too long"},
    {Errc::no_space, ENOSPC, "no space left on the volume"},
    {Errc::too_many_links, EMLINK, "too many links"},
    {Errc::file_too_large, EFBIG, "the file would be too large"},
    {Errc::invalid_argument, EINVAL, "invalid argument"},
    {Errc::not_permitted, EPERM, "operation not permitted"},
    {Errc::access_denied, EACCES, "permission denied"},
    {Errc::read_only, EROFS, "the filesystem is read-only"},
    {Errc::not_supported, EOPNOTSUPP, "operation not supported"},
    {Errc::no_attribute, ENODATA, "no such attribute"},
    {Errc::result_too_large, ERANGE, "the result does not fit into the buffer"},
    {Errc::value_too_large, E2BIG, "the value is too large"},
    {Errc::no_such_offset, ENXIO, "the offset is past the end"},
    {Errc::busy, EBUSY, "busy"},
    {Errc::stale_handle, ESTALE, "stale file handle"},
    {Errc::interrupted, EINTR, "interrupted"},
    {Errc::cross_device, EXDEV, "source and destination are not on the same filesystem"},
    {Errc::out_of_memory, ENOMEM, "out of memory"},
    // Device errors: counted for each device; another copy is tried if there is one.
    {Errc::io_error, EIO, "the device reported an input/output error"},
    {Errc::device_gone, ENODEV, "the device is gone"},
    {Errc::device_full, ENOSPC, "the device has no room behind it"},
    {Errc::device_in_use, EBUSY, "the device is in use"},
    {Errc::device_too_small, ENOSPC, "the device is too small"},
    {Errc::device_read_only, EROFS, "the device is read-only"},
    {Errc::foreign_signature, EEXIST, "the device holds another filesystem"},
    // What was read is not valid. If there is another copy this is a device error; if not, it is
    // fatal for metadata.
    {Errc::checksum_mismatch, EIO, "the checksum does not match"},
    {Errc::bad_superblock, EINVAL, "no valid superblock"},
    {Errc::bad_chunk_table, EUCLEAN, "the chunk table is damaged"},
    {Errc::bad_node, EUCLEAN, "a tree node is damaged"},
    {Errc::bad_item, EUCLEAN, "a record in a tree is damaged"},
    {Errc::unsupported_feature, EOPNOTSUPP,
     "the volume needs a feature that this version does not know"},
    {Errc::missing_device, ENXIO, "a device of the volume is missing"},
    {Errc::replaced_device, EINVAL, "the device was replaced by another"},
    // Replace.
    {Errc::replace_running, EINPROGRESS, "a replace is already running"},
    {Errc::no_replace, ENOENT, "no replace is running"},
    {Errc::bad_target, EINVAL, "the target cannot be used"},
    {Errc::bad_command, EINVAL, "unknown command"},
    // Never reaches a caller of fs/tree (error.h).
    {Errc::node_missing, EIO, "a tree node is not in memory"},
};

constexpr bool table_is_in_order_of_codes() {
  for (size_t i = 0; i < std::size(kTable); ++i) {
    if (static_cast<size_t>(kTable[i].code) != i + 1) return false;
  }
  return std::size(kTable) == static_cast<size_t>(Errc::node_missing);
}
static_assert(table_is_in_order_of_codes());

const Row& row_of(Errc code) {
  const size_t index = static_cast<size_t>(code) - 1;
  ASSERT(index < std::size(kTable));
  return kTable[index];
}

}  // namespace

int errno_of(Errc code) {
  return row_of(code).err;
}
std::string_view sentence_of(Errc code) {
  return row_of(code).sentence;
}

Errc errc_from_errno(int err) {
  switch (err) {
    // Errnos that several codes share, and those that no code has.
    case ENOENT:
      return Errc::not_found;
    case EEXIST:
      return Errc::already_exists;
    case ENOSPC:
    case EDQUOT:
      return Errc::no_space;
    case EINVAL:
    case EBADF:
      return Errc::invalid_argument;
    case EROFS:
      return Errc::read_only;
    case EBUSY:
    case EAGAIN:
    case ETXTBSY:
      return Errc::busy;
    case EOPNOTSUPP:
    case ENOSYS:
    case ENOTTY:
      return Errc::not_supported;
    case ENODEV:
    case ENXIO:
    case ENOMEDIUM:
    case ESHUTDOWN:
      return Errc::device_gone;
    case EIO:
    case EUCLEAN:
    case EINPROGRESS:
      return Errc::io_error;
    default:
      break;
  }
  for (const Row& row : kTable) {
    if (row.err == err) return row.code;
  }
  return Errc::io_error;
}

std::string text_of_errno(int err) {
  return std::system_category().message(err);
}

int Error::to_errno() const {
  return errno_of(code);
}

std::string Error::message() const {
  if (detail) return *detail;
  const std::string_view sentence = sentence_of(code);
  const bool has_device = device.value != 0;
  if (has_device && offset != 0) {
    return fmt::format("{} (devid {}, offset {})", sentence, device.value, offset);
  }
  if (has_device) return fmt::format("{} (devid {})", sentence, device.value);
  if (offset != 0) return fmt::format("{} (offset {})", sentence, offset);
  return std::string(sentence);
}

}  // namespace moltfs
