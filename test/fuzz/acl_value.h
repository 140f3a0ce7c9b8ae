// SPDX-License-Identifier: MIT
// A POSIX ACL as the value of an extended attribute.
#pragma once

#include "alloc/base/codec.h"
#include "test/fuzz/raw_image.h"

namespace moltfs::fuzz {

/// rw- for the owner, rwx for user 1000, the mask, r-- for the group and for others.
inline ByteVector acl_value() {
  ByteWriter out;
  out.u32(2);
  constexpr uint32_t kEntries[][3] = {
      {1, 6, ~0u}, {2, 7, 1000}, {4, 4, ~0u}, {16, 7, ~0u}, {32, 4, ~0u}};
  for (const auto& entry : kEntries) {
    out.u16(static_cast<uint16_t>(entry[0]));
    out.u16(static_cast<uint16_t>(entry[1]));
    out.u32(entry[2]);
  }
  return out.take();
}

}  // namespace moltfs::fuzz
