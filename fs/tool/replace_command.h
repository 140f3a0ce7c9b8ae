// SPDX-License-Identifier: MIT
// What other commands use of "moltfs replace" (replace_command.cc).
#pragma once

#include <string>

#include "fs/daemon/client.h"

namespace moltfs::fs::tool {

/// Shows the progress of the replace, or of the device that comes back, until it is no longer in
/// progress, and then how it has ended. Returns the exit code.
int follow_replace(const daemon::Client& client);

/// True if `word` names a device by path, and not by devid or uuid.
bool is_path(const std::string& word);

/// The devid of the device of the volume that `word` means, as a word for the daemon; what is no
/// device in use stays as it is, with an absolute path.
std::string resolve_device(const daemon::Client& client, const std::string& word);

}  // namespace moltfs::fs::tool
