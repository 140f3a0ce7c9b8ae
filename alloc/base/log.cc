// SPDX-License-Identifier: MIT
// The sinks of log lines.
#include "alloc/base/log.h"

#include <syslog.h>
#include <unistd.h>

#include <memory>
#include <mutex>

namespace moltfs {
namespace {

using Sink = std::function<void(LogLevel, const std::string&)>;

// Never destroyed: lines may still be logged while static objects are destroyed.
struct SinkSlot {
  std::mutex mutex;
  std::shared_ptr<const Sink> sink;  // null: standard error
};
SinkSlot& slot() {
  static SinkSlot* const the_slot = new SinkSlot;
  return *the_slot;
}

// One write(2), so that lines of several threads do not mix.
void write_to_standard_error(const std::string& text) {
  const std::string line = "moltfs: " + text + "\n";
  [[maybe_unused]] const auto written = write(STDERR_FILENO, line.data(), line.size());
}

int syslog_priority(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return LOG_ERR;
    case LogLevel::warning:
      return LOG_WARNING;
    case LogLevel::info:
      return LOG_INFO;
  }
  return LOG_ERR;
}

}  // namespace

void set_log_sink(Sink sink) {
  auto next = sink ? std::make_shared<const Sink>(std::move(sink)) : nullptr;
  std::lock_guard lock(slot().mutex);
  slot().sink.swap(next);
}

void log_to_syslog() {
  openlog("moltfs", LOG_PID, LOG_DAEMON);
  set_log_sink([](LogLevel level, const std::string& text) {
    syslog(syslog_priority(level), "%s", text.c_str());
  });
}

void log_line(LogLevel level, const std::string& text) {
  std::shared_ptr<const Sink> sink;
  {
    std::lock_guard lock(slot().mutex);
    sink = slot().sink;
  }
  if (sink) {
    (*sink)(level, text);
  } else {
    write_to_standard_error(text);
  }
}

}  // namespace moltfs
