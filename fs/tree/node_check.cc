// SPDX-License-Identifier: MIT
// Tree nodes: validation of nodes that were read, and descriptions for dump and messages.
#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/checksum.h"
#include "alloc/base/load.h"
#include "fs/tree/node.h"

namespace moltfs::fs {
namespace {

template <class... Args>
Error bad(fmt::format_string<Args...> format, Args&&... args) {
  return Error(Errc::bad_node, fmt::format(format, std::forward<Args>(args)...));
}

Key decode(const KeyOnDisk& key) {
  return {key.object, key.type, key.offset};
}

bool all_zero(ConstBytes bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

Result<void> check_leaf(ConstBytes bytes, const NodeHeader& header) {
  const size_t head = sizeof(NodeHeader) + header.count * sizeof(LeafSlot);
  if (head > kNodeSize) return bad("{} items do not fit", header.count.value());
  const auto* slots = reinterpret_cast<const LeafSlot*>(bytes.data() + sizeof(NodeHeader));
  size_t end = kNodeSize;
  for (unsigned i = 0; i < header.count; ++i) {
    const size_t length = slots[i].length;
    if (length > kMaxItemBytes || length > end - head) {
      return bad("the value of item {} is too long", i);
    }
    end -= length;
    if (slots[i].offset != end) return bad("the value of item {} is in a wrong place", i);
    if (i > 0 && decode(slots[i - 1].key) >= decode(slots[i].key)) {
      return bad("items {} and {} are out of order", i - 1, i);
    }
  }
  if (header.values_start != end) return bad("the values start in a wrong place");
  if (!all_zero(bytes.subspan(head, end - head))) return bad("free bytes are not zero");
  return ok();
}

Result<void> check_inner(ConstBytes bytes, const NodeHeader& header) {
  if (header.count == 0) return bad("an inner node is empty");
  if (header.count > kMaxInnerEntries) return bad("{} entries do not fit", header.count.value());
  if (header.values_start != kNodeSize) return bad("an inner node has values");
  const auto* entries = reinterpret_cast<const InnerSlot*>(bytes.data() + sizeof(NodeHeader));
  for (unsigned i = 0; i < header.count; ++i) {
    const InnerSlot& e = entries[i];
    if (e.address % kBlockSize != 0) return bad("entry {} points to a misaligned address", i);
    if (e.birth == 0 || e.birth > header.birth) {
      return bad("entry {} points to a node born in {}, after its parent", i, e.birth.value());
    }
    if (i == 0 && decode(e.key) != Key::min()) return bad("the first key is not the smallest");
    if (i > 0 && decode(entries[i - 1].key) >= decode(e.key)) {
      return bad("entries {} and {} are out of order", i - 1, i);
    }
  }
  const size_t head = sizeof(NodeHeader) + header.count * sizeof(InnerSlot);
  if (!all_zero(bytes.subspan(head))) return bad("free bytes are not zero");
  return ok();
}

}  // namespace

Result<void> validate_node(ConstBytes bytes, LogicalOffset address, Generation birth) {
  if (bytes.size() != kNodeSize) return bad("a node cannot have {} bytes", bytes.size());
  const NodeHeader header = *load<NodeHeader>(bytes);
  if (header.magic != kNodeMagic) return bad("there is no node here");
  if (header.checksum != checksum_of(bytes.subspan(sizeof(header.checksum)))) {
    return Error(Errc::checksum_mismatch, "the checksum does not match");
  }
  if (header.address != address.value) {
    return bad("this is the node of address {}", header.address.value());
  }
  if (header.birth != birth.value) {
    return bad("this is a node born in generation {}", header.birth.value());
  }
  if (header.version != kNodeVersion) return bad("version {}", header.version.value());
  if (header.tree == 0 || header.tree > kTreeCount) return bad("tree {}", header.tree.value());
  if (header.level >= kMaxTreeHeight) return bad("level {}", header.level.value());
  if (header.reserved0 != 0 || !all_zero(std::as_bytes(std::span(header.reserved1)))) {
    return bad("reserved bytes are not zero");
  }
  return header.level == 0 ? check_leaf(bytes, header) : check_inner(bytes, header);
}

Result<void> validate_node(ConstBytes bytes, const NodeExpectation& expected, const Uuid* volume) {
  TRY(validate_node(bytes, expected.pointer.address, expected.pointer.birth));
  const NodeHeader header = *load<NodeHeader>(bytes);
  if (header.checksum != expected.pointer.checksum) {
    return Error(Errc::checksum_mismatch, "the checksum differs from the one in its parent");
  }
  if (volume != nullptr && header.volume != volume->bytes) {
    return bad("this is a node of another volume");
  }
  if (header.tree != static_cast<uint8_t>(expected.tree) || header.level != expected.level) {
    return bad("this is a node of level {} of tree {}", header.level.value(), header.tree.value());
  }
  if (header.count == 0) return ok();
  // The first key of an inner node is always Key::min() (node.h).
  const bool leaf = header.level == 0;
  const size_t slot_bytes = leaf ? sizeof(LeafSlot) : sizeof(InnerSlot);
  const auto key_at = [&](unsigned slot) {
    return decode(*load<KeyOnDisk>(bytes, sizeof(NodeHeader) + slot * slot_bytes));
  };
  const unsigned first = leaf ? 0 : 1;
  if (first < header.count &&
      (key_at(first) < expected.lower || key_at(header.count - 1u) >= expected.upper)) {
    return bad("its keys are outside the range given by its parent");
  }
  return ok();
}

std::string_view name_of(TreeId tree) {
  return tree == TreeId::fs ? "filesystem tree" : "extent tree";
}

std::string describe(const Key& key) {
  return fmt::format("({} {} {})", key.object, key.type, key.offset);
}

std::string describe(const Node& node, const std::function<std::string(const Item&)>& item) {
  std::string out = fmt::format(
      "node {} of the {}: level {}, born in {}, {} {}, {} of {} bytes used, checksum {:016x}\n",
      node.address().value, name_of(node.tree()), node.level(), node.birth().value, node.count(),
      node.is_leaf() ? "items" : "entries", node.used_bytes(), kNodeCapacity, node.checksum());
  for (unsigned i = 0; i < node.count(); ++i) {
    if (!node.is_leaf()) {
      const NodePointer p = node.pointer(i);
      out += fmt::format("  {} -> {} born in {}, checksum {:016x}\n", describe(node.key(i)),
                         p.address.value, p.birth.value, p.checksum);
    } else if (item) {
      out += fmt::format("  {} {}\n", describe(node.key(i)), item({node.key(i), node.value(i)}));
    } else {
      out += fmt::format("  {} {} bytes\n", describe(node.key(i)), node.value(i).size());
    }
  }
  return out;
}

}  // namespace moltfs::fs
