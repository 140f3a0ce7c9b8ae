// SPDX-License-Identifier: MIT
// The sinks of log lines.
#include "alloc/base/log.h"

#include <syslog.h>

#include <memory>
#include <mutex>

#include "alloc/base/standard_streams.h"
#include "alloc/base/syslog_socket.h"
#include "alloc/base/utf8.h"

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

// Never destroyed either.
struct SystemLog {
  std::mutex mutex;
  SyslogSocket socket;
};

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
  static SystemLog* const log = new SystemLog;
  set_log_sink([](LogLevel level, const std::string& text) {
    std::lock_guard lock(log->mutex);
    log->socket.send(syslog_priority(level), "moltfs", text);
  });
}

void log_line(LogLevel level, const std::string& message) {
  const std::string text = printable(message);
  std::shared_ptr<const Sink> sink;
  {
    std::lock_guard lock(slot().mutex);
    sink = slot().sink;
  }
  if (sink) {
    (*sink)(level, text);
  } else {
    // A reader that has stopped reading must not stop the threads of a daemon.
    offer_to_standard_error("moltfs: " + text + "\n");
  }
}

}  // namespace moltfs
