// SPDX-License-Identifier: MIT
// Where exceptions end. This code throws none of its own, but memory or threads can run out
// anywhere: std::bad_alloc, std::system_error. A task that no request waits for calls contain() or
// insist() around its work, and goes on.
#pragma once

#include <type_traits>
#include <utility>

#include "alloc/base/error.h"
#include "alloc/base/runtime.h"

namespace moltfs {

/// The error for the exception that is being handled. Any other than those two is thrown again: it
/// is a programmer's error, and nothing catches it. REQUIRES: called in a catch block.
Error error_of_exception();

template <class T>
struct ResultOf {
  using Type = Result<T>;
};
template <class T>
struct ResultOf<Result<T>> {
  using Type = Result<T>;
};

/// Runs `f` and returns what it returns; the error if it throws.
template <class F>
typename ResultOf<std::invoke_result_t<F>>::Type contain(F&& f) {
  try {
    if constexpr (std::is_void_v<std::invoke_result_t<F>>) {
      f();
      return ok();
    } else {
      return f();
    }
  } catch (...) {
    return error_of_exception();
  }
}

/// Runs `f`, which must be done, again and again until it does not throw. Waits between: others may
/// give memory back. REQUIRES: `f` can be repeated after it has thrown.
template <class F>
void insist(Runtime& runtime, F&& f) {
  constexpr Nanoseconds kPause = std::chrono::milliseconds(100);
  while (!contain(f)) runtime.sleep(kPause);
}

}  // namespace moltfs
