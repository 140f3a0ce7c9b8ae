// SPDX-License-Identifier: MIT
// The listener of the calling thread.
#include "alloc/base/blocking.h"

#include <utility>

namespace moltfs {
namespace {

thread_local const std::function<void()>* listener_here = nullptr;

}  // namespace

void announce_blocking() {
  if (listener_here != nullptr) (*listener_here)();
}

BlockingListener::BlockingListener(std::function<void()> listener)
    : listener_(std::move(listener)), outer_(listener_here) {
  listener_here = &listener_;
}

BlockingListener::~BlockingListener() {
  listener_here = outer_;
}

}  // namespace moltfs
