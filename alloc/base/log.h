// SPDX-License-Identifier: MIT
// Log lines. They go to standard error as "moltfs: TEXT", to syslog when the daemon runs in the
// background, or to a test's own sink.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>

namespace moltfs {

enum class LogLevel { error, warning, info };

/// Sends all lines to `sink`, which must be thread-safe. An empty function sends them to standard
/// error again, as at first.
void set_log_sink(std::function<void(LogLevel, const std::string&)> sink);
/// Sends lines to syslog from now on.
void log_to_syslog();
/// One line of `text`, without the newline. Thread-safe.
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
