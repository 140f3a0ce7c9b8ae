// SPDX-License-Identifier: MIT
// Content of batches of the fsync log: encoding, decoding with checks, the list of changed keys.
#include "fs/tree/log_content.h"

#include <algorithm>

#include "alloc/base/assert.h"
#include "alloc/base/codec.h"

namespace moltfs::fs {
namespace {

enum class Action : uint8_t { put = 1, erase = 2 };

Error bad(const char* what) {
  return Error(Errc::bad_item, std::string("fsync log: ") + what);
}

Result<LogContent::Item> decode_item(ByteReader& in) {
  LogContent::Item item;
  TRY(auto tree, in.u8());
  TRY(auto action, in.u8());
  TRY(item.id.key.object, in.u64());
  TRY(item.id.key.type, in.u8());
  TRY(item.id.key.offset, in.u64());
  if (tree != static_cast<uint8_t>(TreeId::fs) && tree != static_cast<uint8_t>(TreeId::extent)) {
    return bad("an item of an unknown tree");
  }
  item.id.tree = static_cast<TreeId>(tree);
  if (item.id.key == Key::max()) return bad("an impossible key");
  if (action == static_cast<uint8_t>(Action::erase)) return item;
  if (action != static_cast<uint8_t>(Action::put)) return bad("an unknown action");
  TRY(auto length, in.u16());
  if (length > kMaxItemBytes) return bad("an item that is too long");
  TRY(auto value, in.bytes(length));
  item.value.emplace(value.begin(), value.end());
  return item;
}

}  // namespace

const std::vector<ItemId>& ChangedKeys::sorted() {
  ASSERT(!overflowed_);
  std::sort(items_.begin(), items_.end());
  items_.erase(std::unique(items_.begin(), items_.end()), items_.end());
  return items_;
}

void ChangedKeys::compact() {
  if (sorted().size() <= kMaxKeys) return;
  overflowed_ = true;
  items_ = {};
}

std::vector<std::byte> encode(const LogContent& content) {
  ByteWriter out;
  out.u64(content.counters.next_inode);
  out.u64(content.counters.inode_count);
  out.u64(content.counters.hash_seed);
  out.u32(static_cast<uint32_t>(content.items.size()));
  for (const LogContent::Item& item : content.items) {
    out.u8(static_cast<uint8_t>(item.id.tree));
    out.u8(static_cast<uint8_t>(item.value ? Action::put : Action::erase));
    out.u64(item.id.key.object);
    out.u8(item.id.key.type);
    out.u64(item.id.key.offset);
    if (!item.value) continue;
    ASSERT(item.value->size() <= kMaxItemBytes);
    out.u16(static_cast<uint16_t>(item.value->size()));
    out.bytes(*item.value);
  }
  return out.take();
}

Result<LogContent> decode_log_content(ConstBytes payload) {
  ByteReader in(payload);
  LogContent content;
  TRY(content.counters.next_inode, in.u64());
  TRY(content.counters.inode_count, in.u64());
  TRY(content.counters.hash_seed, in.u64());
  TRY(check_counters(content.counters));
  TRY(auto count, in.u32());
  for (uint32_t i = 0; i < count; ++i) {
    TRY(auto item, decode_item(in));
    content.items.push_back(std::move(item));
  }
  if (!in.at_end()) return bad("bytes too many");
  return content;
}

}  // namespace moltfs::fs
