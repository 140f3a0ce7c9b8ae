// SPDX-License-Identifier: MIT
// Mount: opens the layers one on the other, commits now and then, and takes them down again.
#include "fs/mount/mount.h"

#include <fmt/format.h>

#include <atomic>

#include "alloc/base/log.h"
#include "fs/content/log_data.h"
#include "fs/mount/replace_host.h"

namespace moltfs::fs {
namespace {

// Beside the copier's windows: commits, and what the engine does besides.
constexpr unsigned kExtraWorkers = 4;

}  // namespace

class Mount::Impl {
  // Before what may use them to the last.
  bool open_ = false;
  bool engine_runs_ = false;
  std::atomic<bool> abandoned_{false};
  std::atomic<bool> commit_asked_{false};

 public:
  Impl(Runtime& r, const Options& o)
      : options(o),
        runtime(r),
        serving(r),
        background(r, o.replace.windows_in_flight + kExtraWorkers) {}
  ~Impl() { stop_background(); }

  Result<void> open(alloc::DeviceOpener& opener, const std::vector<std::string>& paths);
  Result<void> close();
  void abandon();

  const Options options;
  Runtime& runtime;
  RequestBusyTime serving;
  Background background;
  // In the order in which they stand on each other.
  std::unique_ptr<alloc::Volume> volume;
  std::unique_ptr<Transactions> transactions;
  std::unique_ptr<Filesystem> filesystem;
  std::unique_ptr<ReplaceHost> host;
  std::unique_ptr<replace::Engine> engine;

 private:
  void start_commits();
  void stop_background();
  asio::awaitable<void> commit_timer();
  asio::awaitable<void> commit_once();
  void commit_unless_abandoned();
};

Result<void> Mount::Impl::open(alloc::DeviceOpener& opener, const std::vector<std::string>& paths) {
  alloc::Volume::OpenOptions volume_options;
  volume_options.read_only = options.read_only;
  volume_options.hints = options.device_hints;
  volume_options.abandon_swap = options.abandon_swap;
  Transactions::Options transactions_options;
  transactions_options.cache_bytes = options.cache_bytes;
  transactions_options.read_only = options.read_only;
  transactions_options.data_matches = [this](const Redo& redo) {
    return logged_data_matches(*volume, redo);
  };
  const auto open_trees = [&]() -> Result<void> {
    transactions.reset();
    volume.reset();
    TRY(volume, alloc::Volume::open(runtime, opener, paths, volume_options));
    TRY(transactions, Transactions::open(*volume, transactions_options));
    return ok();
  };
  auto trees = open_trees();
  if (!trees && options.read_only && volume && !volume->found_log().batches.empty()) {
    // A damaged tree may stand in the way of the log. Then at least the last commit can be read.
    log_warning("mounting without the fsync log: {}", trees.error().message());
    volume_options.ignore_log = true;
    trees = open_trees();
  }
  TRY(trees);

  Filesystem::Options filesystem_options;
  filesystem_options.read_only = options.read_only;
  filesystem_options.policy = options.policy;
  TRY(filesystem, Filesystem::open(runtime, *transactions, filesystem_options));

  // Duplication is on before the first write: nothing above has written, and what follows does only
  // after restore().
  host = std::make_unique<ReplaceHost>(*transactions, serving);
  host->set_filesystem(filesystem.get());
  engine = std::make_unique<replace::Engine>(*volume, *host, background, options.replace);
  TRY(engine->restore(options.device_hints, options.read_only));
  if (!options.read_only && volume->found_log().begun) {
    log_info("replaying {} batches of the fsync log", volume->found_log().batches.size());
    TRY(transactions->commit(true));
  }
  open_ = true;
  if (options.read_only) return ok();
  filesystem->start();
  engine->run();
  engine_runs_ = true;
  // Where a device has moved or grown, the next mount is to know.
  if (volume->superblock().devices != volume->devices()) (void)transactions->commit(true);
  start_commits();
  return ok();
}

void Mount::Impl::start_commits() {
  transactions->set_pressure_callback([this] {
    if (!commit_asked_.exchange(true)) background.start(commit_once());
  });
  if (options.commit_interval > Nanoseconds::zero()) background.start(commit_timer());
}

asio::awaitable<void> Mount::Impl::commit_timer() {
  while (!background.stopping()) {
    const Nanoseconds due = runtime.now() + options.commit_interval;
    while (!background.stopping() && runtime.now() < due) {
      co_await background.sleep(due - runtime.now());
    }
    if (background.stopping() || !transactions->has_changes()) continue;
    auto commit = [this] { commit_unless_abandoned(); };
    co_await background.blocking(std::move(commit));
  }
}

asio::awaitable<void> Mount::Impl::commit_once() {
  auto commit = [this] {
    commit_asked_ = false;
    commit_unless_abandoned();
  };
  co_await background.blocking(std::move(commit));
}

// A failed commit is logged by whoever did it and told to whoever asks for the next.
void Mount::Impl::commit_unless_abandoned() {
  if (!abandoned_) (void)transactions->commit();
}

void Mount::Impl::stop_background() {
  if (transactions) transactions->set_pressure_callback({});
  background.stop();
  background.join();
}

Result<void> Mount::Impl::close() {
  if (!open_) return ok();
  open_ = false;
  filesystem->stop();
  if (engine_runs_) engine->stop();
  stop_background();
  Result<void> result = ok();
  if (!options.read_only) {
    auto committed = transactions->commit();
    if (!committed) result = committed.error();
  }
  return result;
}

void Mount::Impl::abandon() {
  if (!open_) return;
  open_ = false;
  abandoned_ = true;
  filesystem->abandon();
  engine.reset();  // without the commit that its stop() makes
  stop_background();
}

Mount::Mount(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Mount::~Mount() {
  auto closed = close();
  if (!closed) log_error("unmount: {}", closed.error().message());
}

Result<std::unique_ptr<Mount>> Mount::open(Runtime& runtime, alloc::DeviceOpener& opener,
                                           const std::vector<std::string>& paths,
                                           const Options& options) {
  auto impl = std::make_unique<Impl>(runtime, options);
  TRY(impl->open(opener, paths));
  return std::unique_ptr<Mount>(new Mount(std::move(impl)));
}

Result<void> Mount::close() {
  return impl_->close();
}

void Mount::abandon() {
  impl_->abandon();
}

Filesystem& Mount::filesystem() {
  return *impl_->filesystem;
}

Transactions& Mount::transactions() {
  return *impl_->transactions;
}

alloc::Volume& Mount::volume() {
  return *impl_->volume;
}

replace::Engine& Mount::replace() {
  return *impl_->engine;
}

RequestBusyTime& Mount::serving() {
  return impl_->serving;
}

Background& Mount::background() {
  return impl_->background;
}

}  // namespace moltfs::fs
