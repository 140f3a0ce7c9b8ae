// SPDX-License-Identifier: MIT
// What a process may do, read from /proc. Called in the broker (broker.h), which no sandbox holds.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "alloc/base/error.h"
#include "fs/mount/broker.h"

namespace moltfs::fs::daemon {

struct CallerRights {
  uid_t uid = 0;  ///< as for access to files
  gid_t gid = 0;
  std::vector<gid_t> groups;
  uint64_t capabilities = 0;  ///< effective, in its user namespace
  bool in_our_user_namespace = false;
  bool above_our_user_namespace = false;

  bool is_admin() const;
};

/// The rights of the thread `caller.pid`. Error: not_permitted, with a sentence that says why they
/// are not known: the caller is in another PID namespace, /proc is missing or that of another PID
/// namespace, it may not be read, or the request was made with other rights than the caller's own
/// (by a kernel thread such as nfsd, or through another filesystem such as overlayfs).
Result<CallerRights> rights_of(const CallingProcess& caller);

/// The fields of /proc/PID/status that rights_of() needs. Nothing is set that `text` lacks.
struct StatusFields {
  std::vector<uint64_t> uids, gids, groups, namespace_pids;
  uint64_t capabilities = 0;
  bool has_capabilities = false;
};
StatusFields parse_status(const std::string& text);

}  // namespace moltfs::fs::daemon
