// SPDX-License-Identifier: MIT
// Opening the layers in order, committing by a timer, and closing the layers in reverse.
#include "fs/mount/mount.h"

#include <fmt/format.h>

#include "alloc/base/contain.h"
#include "alloc/base/log.h"
#include "alloc/base/size_text.h"
#include "fs/content/log_data.h"

namespace moltfs::fs {
namespace {

// Besides the copier's windows: commits, and what else the engine does in the background.
constexpr unsigned kExtraWorkers = 4;
/// How often Options::wanted_cache_bytes is asked.
constexpr Nanoseconds kAskForMemory = std::chrono::seconds(5);
constexpr Nanoseconds kPauseWithoutMemory = std::chrono::milliseconds(10);

}  // namespace

Mount::Mount(Runtime& runtime, const Options& options)
    : options_(options),
      runtime_(runtime),
      request_load_(runtime),
      background_(runtime, options.replace.windows_in_flight + kExtraWorkers) {}

Mount::~Mount() {
  auto closed = close();
  if (!closed) log_error("unmount: {}", closed.error().message());
  stop_background();
}

Result<std::unique_ptr<Mount>> Mount::open(Runtime& runtime, alloc::DeviceOpener& opener,
                                           const std::vector<std::string>& paths,
                                           const Options& options) {
  std::unique_ptr<Mount> mount(new Mount(runtime, options));
  TRY(mount->open_all(opener, paths));
  return mount;
}

Result<void> Mount::open_all(alloc::DeviceOpener& opener, const std::vector<std::string>& paths) {
  TRY(open_trees(opener, paths));
  TRY(open_filesystem());
  TRY(restore_replace());
  if (!options_.read_only && volume_->found_log().begun) {
    if (last_batch_) complete_log_data(*volume_, *last_batch_);
    last_batch_.reset();
    log_info("replaying {} batches of the fsync log", volume_->found_log().batches.size());
    TRY(transactions_->commit(true));
  }
  is_open_ = true;
  if (!options_.read_only) start();
  return ok();
}

Result<void> Mount::open_trees(alloc::DeviceOpener& opener, const std::vector<std::string>& paths) {
  alloc::Volume::OpenOptions volume_options;
  volume_options.read_only = options_.read_only;
  volume_options.hints = options_.device_hints;
  volume_options.abandon_swap = options_.abandon_swap;
  volume_options.degraded = options_.degraded;
  Transactions::Options transactions_options;
  transactions_options.cache_bytes = options_.cache_bytes;
  transactions_options.read_only = options_.read_only;
  transactions_options.data_matches = [this](const LogContent& content) {
    const bool matches = log_data_matches(*volume_, content);
    if (matches) last_batch_ = std::make_unique<LogContent>(content);
    return matches;
  };
  const auto try_to_open = [&]() -> Result<void> {
    transactions_.reset();
    volume_.reset();
    TRY(volume_, alloc::Volume::open(runtime_, opener, paths, volume_options));
    TRY(transactions_, Transactions::open(*volume_, transactions_options));
    return ok();
  };
  auto opened = try_to_open();
  if (!opened && options_.read_only && volume_ && !volume_->found_log().batches.empty()) {
    // A damaged tree may keep the log from being replayed. The last commit can still be read.
    log_warning("mounting without the fsync log: {}", opened.error().message());
    volume_options.ignore_log = true;
    opened = try_to_open();
  }
  return opened;
}

Result<void> Mount::open_filesystem() {
  Filesystem::Options options;
  options.read_only = options_.read_only;
  options.policy = options_.policy;
  TRY(filesystem_, Filesystem::open(runtime_, *transactions_, options));
  return ok();
}

// Duplication must be on before the first write. Opening the layers below writes nothing.
Result<void> Mount::restore_replace() {
  host_ = std::make_unique<ReplaceHost>(*transactions_, *filesystem_, request_load_);
  engine_ = std::make_unique<replace::Engine>(*volume_, *host_, background_, options_.replace);
  return engine_->restore(options_.device_hints, options_.read_only);
}

void Mount::start() {
  filesystem_->start();
  engine_->run();
  engine_runs_ = true;
  // A device that has moved or grown is recorded at once, so that the next mount finds it.
  if (volume_->superblock().devices != volume_->devices()) (void)transactions_->commit(true);
  transactions_->set_pressure_callback([this] {
    if (commit_is_requested_.exchange(true)) return;
    // The change that has called this is done; the timer commits as well.
    if (!contain([this] { background_.start(commit_once()); })) commit_is_requested_ = false;
  });
  if (options_.commit_interval > Nanoseconds::zero()) background_.start(commit_timer());
  if (options_.wanted_cache_bytes) background_.start(cache_timer());
}

asio::awaitable<void> Mount::cache_timer() {
  while (!background_.stopping()) {
    co_await background_.sleep(kAskForMemory);
    if (background_.stopping()) co_return;
    auto adjust = [this] { return contain([this] { adjust_cache(); }); };
    (void)co_await background_.blocking(std::move(adjust));
  }
}

void Mount::adjust_cache() {
  const uint64_t wanted = options_.wanted_cache_bytes();
  const uint64_t now = transactions_->cache_bytes();
  if (wanted == now) return;
  log_info("the cache of metadata may use {} now, not {}", human_size(wanted), human_size(now));
  transactions_->set_cache_bytes(wanted);
}

// It must not end for want of memory.
asio::awaitable<void> Mount::commit_timer() {
  while (!background_.stopping()) {
    try {
      co_await commit_after_interval();
    } catch (...) {
      (void)error_of_exception();
      runtime_.sleep(kPauseWithoutMemory);
    }
  }
}

asio::awaitable<void> Mount::commit_after_interval() {
  const Nanoseconds due = runtime_.now() + options_.commit_interval;
  while (!background_.stopping() && runtime_.now() < due) {
    co_await background_.sleep(due - runtime_.now());
  }
  if (background_.stopping() || !transactions_->has_changes()) co_return;
  auto commit = [this] { commit_unless_abandoned(); };
  co_await background_.blocking(std::move(commit));
}

asio::awaitable<void> Mount::commit_once() {
  auto commit = [this] {
    commit_is_requested_ = false;
    return contain([this] { commit_unless_abandoned(); });
  };
  (void)co_await background_.blocking(std::move(commit));
}

// The error is not lost: Transactions logs it and returns it to the next caller of commit().
void Mount::commit_unless_abandoned() {
  if (!is_abandoned_) (void)transactions_->commit();
}

void Mount::stop_background() {
  if (transactions_) transactions_->set_pressure_callback({});
  background_.stop();
  background_.join();
}

Result<void> Mount::close() {
  if (!is_open_) return ok();
  is_open_ = false;
  filesystem_->stop();
  if (engine_runs_) engine_->stop();
  stop_background();
  Result<void> result = ok();
  if (!options_.read_only) {
    auto committed = transactions_->commit();
    if (!committed) result = committed.error();
  }
  return result;
}

void Mount::abandon() {
  if (!is_open_) return;
  is_open_ = false;
  is_abandoned_ = true;
  filesystem_->abandon();
  engine_.reset();  // stop() would commit
  stop_background();
}

}  // namespace moltfs::fs
