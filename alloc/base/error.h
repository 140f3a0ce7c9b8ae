// SPDX-License-Identifier: MIT
// Errors as values. Whatever can fail in operation returns a Result<T>; one table (error.cc) turns
// an error code into an errno and a sentence.
#pragma once

#include <boost/outcome/basic_result.hpp>
#include <boost/outcome/policy/terminate.hpp>
#include <boost/outcome/try.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "alloc/base/strong_types.h"

namespace moltfs {

/// Named after what is wrong. An error has one of three fates: an *answer* goes to the caller and
/// is not logged; a *device* error is counted, and another copy is tried; a *fatal* error turns the
/// filesystem read-only. error.cc says which codes can have which fate.
enum class Errc : uint16_t {
  // Answers
  not_found = 1,        // ENOENT
  already_exists,       // EEXIST
  not_a_directory,      // ENOTDIR
  is_a_directory,       // EISDIR
  directory_not_empty,  // ENOTEMPTY
  name_too_long,        // ENAMETOOLONG
  no_space,             // ENOSPC
  too_many_links,       // EMLINK
  file_too_large,       // EFBIG
  invalid_argument,     // EINVAL
  not_permitted,        // EPERM
  access_denied,        // EACCES
  read_only,            // EROFS
  not_supported,        // EOPNOTSUPP
  no_attribute,         // ENODATA
  result_too_large,     // ERANGE
  value_too_large,      // E2BIG
  no_such_offset,       // ENXIO: SEEK_DATA/SEEK_HOLE past the end
  busy,                 // EBUSY
  stale_handle,         // ESTALE
  interrupted,          // EINTR: the work was asked to stop
  cross_device,         // EXDEV
  out_of_memory,        // ENOMEM
  // Devices
  io_error,           // EIO
  device_gone,        // ENODEV
  device_full,        // ENOSPC: the host of an image file, or a thin device, has no room
  device_in_use,      // EBUSY
  device_too_small,   // ENOSPC
  device_read_only,   // EROFS
  foreign_signature,  // EEXIST: the device holds another filesystem
  // What was read is not valid
  checksum_mismatch,    // EIO
  bad_superblock,       // EINVAL
  bad_chunk_table,      // EUCLEAN
  bad_node,             // EUCLEAN
  bad_item,             // EUCLEAN
  unsupported_feature,  // EOPNOTSUPP
  missing_device,       // ENXIO
  replaced_device,      // EINVAL: this device was replaced by another
  // Replace
  replace_running,  // EINPROGRESS
  no_replace,       // ENOENT: no replace is running
  bad_target,       // EINVAL
  bad_command,      // EINVAL
  // A tree node has to be loaded first. Seen only inside critical sections of fs/tree: the node is
  // loaded and the section runs again (fs/tree/transaction.h). No caller of a transaction gets it.
  node_missing,
};

/// Small and cheap to copy. `device` 0 and `offset` 0 mean "unknown".
struct [[nodiscard]] Error {
  Errc code;
  DeviceId device;
  uint64_t offset = 0;
  /// A sentence with names and numbers, or null.
  std::shared_ptr<const std::string> detail;

  Error(Errc c) : code(c) {}  // NOLINT: implicit, so that a function can return a code
  Error(Errc c, std::string text)
      : code(c), detail(std::make_shared<const std::string>(std::move(text))) {}
  Error(Errc c, DeviceId dev, uint64_t off) : code(c), device(dev), offset(off) {}

  /// The errno that a system call would give here on a kernel filesystem (positive).
  int to_errno() const;
  /// The sentence: `detail` if there is one, else the table's sentence with device and offset.
  std::string message() const;
  bool operator==(Errc c) const { return code == c; }
};

/// The errno (positive) and the sentence of a code, from the table.
int errno_of(Errc code);
std::string_view sentence_of(Errc code);
/// The nearest code for an errno of the operating system; io_error for EIO and for unknown ones.
Errc errc_from_errno(int err);
/// The operating system's text for an errno ("Permission denied").
std::string text_of_errno(int err);

namespace outcome = BOOST_OUTCOME_V2_NAMESPACE;

/// A value or an Error. Asking for the one that is not there ends the program: that is a
/// programmer's error.
template <class T>
using Result = outcome::basic_result<T, Error, outcome::policy::terminate>;

inline Result<void> ok() {
  return outcome::success();
}

}  // namespace moltfs

/// TRY(expr);  TRY(auto name, expr);  TRY(existing, expr);
/// Returns the error from the calling function if there is one. Expands to several statements:
/// needs braces when it is the body of an `if`.
#define TRY(...) BOOST_OUTCOME_TRY(__VA_ARGS__)
