// SPDX-License-Identifier: MIT
#include "alloc/base/contain.h"

#include <new>
#include <string>
#include <system_error>

namespace moltfs {

Error error_of_exception() {
  try {
    throw;
  } catch (const std::bad_alloc&) {
    return Error(Errc::out_of_memory);
  } catch (const std::system_error& error) {
    try {
      return Error(errc_from_errno(error.code().value()), error.what());
    } catch (const std::bad_alloc&) {
      return Error(Errc::out_of_memory);
    }
  }
}

}  // namespace moltfs
