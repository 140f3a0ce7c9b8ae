// SPDX-License-Identifier: MIT
// A few threads share the requests of a batch with the thread that called run().
#include "alloc/device/thread_engine.h"

#include <algorithm>
#include <deque>
#include <mutex>
#include <system_error>

#include "alloc/base/assert.h"
#include "alloc/base/contain.h"
#include "alloc/base/log.h"
#include "alloc/device/file_io.h"

namespace moltfs::alloc {
namespace {

class ThreadEngine final : public IoEngine {
 public:
  ThreadEngine(Runtime& runtime, unsigned threads)
      : runtime_(runtime), thread_count_(threads), work_(runtime.make_wait_queue()) {
    ASSERT(threads > 0);
  }

  ~ThreadEngine() override {
    {
      std::lock_guard lock(mutex_);
      ASSERT(batches_.empty());
      quit_ = true;
    }
    work_->notify_all();
    tasks_.clear();
  }

  std::string_view name() const override { return "threads"; }

  void run(std::span<IoRequest> requests) override {
    if (requests.size() <= 1) {
      for (IoRequest& request : requests) run_here(request);
      return;
    }
    Batch batch{requests, runtime_.make_wait_queue()};
    std::unique_lock lock(mutex_);
    start_threads();
    batches_.push_back(&batch);
    const size_t helpers = std::min<size_t>(requests.size() - 1, thread_count_);
    for (size_t i = 0; i < helpers; ++i) work_->notify_one();
    while (batch.next < requests.size()) run_next_of(batch, lock);
    batch.all_done->wait(lock, [&] { return batch.done == requests.size(); });
  }

 private:
  /// On the stack of the caller of run(). Not used any more once `done` is the number of requests.
  struct Batch {
    std::span<IoRequest> requests;
    std::unique_ptr<WaitQueue> all_done;
    size_t next = 0;  // guarded by mutex_: the first request that no thread has taken
    size_t done = 0;  // guarded by mutex_
  };

  /// REQUIRES: mutex_ is held. Threads start with the first batch, as many programs need none. Those
  /// that the system does not allow are done without: the caller of run() can do all requests.
  void start_threads() {
    if (started_) return;
    started_ = true;
    try {
      while (tasks_.size() < thread_count_) {
        tasks_.push_back(runtime_.spawn("io", [this] { work(); }));
      }
    } catch (const std::system_error& error) {
      log_warning("device I/O has {} threads instead of {}: {}", tasks_.size(), thread_count_,
                  error.what());
    }
  }

  /// REQUIRES: `lock` holds mutex_, and the batch has a request left. Unlocks during the I/O.
  void run_next_of(Batch& batch, std::unique_lock<std::mutex>& lock) {
    IoRequest& request = batch.requests[batch.next++];
    if (batch.next == batch.requests.size()) std::erase(batches_, &batch);
    lock.unlock();
    const auto ran = contain([&] { run_here(request); });
    if (!ran) request.result = ran.error();
    lock.lock();
    if (++batch.done == batch.requests.size()) batch.all_done->notify_all();
  }

  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      work_->wait(lock, [this] { return quit_ || !batches_.empty(); });
      if (batches_.empty()) return;
      run_next_of(*batches_.front(), lock);
    }
  }

  Runtime& runtime_;
  const unsigned thread_count_;
  std::mutex mutex_;
  std::unique_ptr<WaitQueue> work_;
  // Guarded by mutex_:
  std::deque<Batch*> batches_;  // those with requests that no thread has taken
  bool quit_ = false;
  bool started_ = false;
  std::vector<std::unique_ptr<Task>> tasks_;
};

}  // namespace

std::unique_ptr<IoEngine> make_thread_engine(Runtime& runtime, unsigned threads) {
  return std::make_unique<ThreadEngine>(runtime, threads);
}

}  // namespace moltfs::alloc
