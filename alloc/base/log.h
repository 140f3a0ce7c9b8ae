// SPDX-License-Identifier: MIT
// Log lines "moltfs: …" to standard error, to syslog once the daemon is in the background, or to a
// test's own sink.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>

namespace moltfs {

enum class LogLevel { error, warning, info, debug };

/// Replaces where lines go (default: standard error, from info up; an empty function brings that
/// back). The sink must be thread-safe.
void set_log_sink(std::function<void(LogLevel, const std::string&)> sink);
/// Sends lines to syslog from now on.
void log_to_syslog();
void log_line(LogLevel level, const std::string& text);

template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace moltfs
