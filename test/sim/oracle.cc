// SPDX-License-Identifier: MIT
// The oracle: see the header.
#include "test/sim/oracle.h"

#include <fmt/format.h>

#include <algorithm>

#include "alloc/base/assert.h"

namespace moltfs::sim {

namespace {

/// To compare groups of hard links: for each name, the smallest name of the same file.
std::map<std::string, std::string> leaders(const DirState& state) {
  std::map<FileId, std::string> first;
  std::map<std::string, std::string> out;
  for (const auto& [name, id] : state.names) {
    first.try_emplace(id, name);
    out[name] = first[id];
  }
  return out;
}

std::string_view block(const std::string& s, uint64_t index) {
  if (index * kBlockSize >= s.size()) return {};
  return std::string_view(s).substr(index * kBlockSize, kBlockSize);
}

/// Equal, where the shorter one counts as followed by zeros.
bool same_bytes(std::string_view a, std::string_view b) {
  if (a.size() > b.size()) std::swap(a, b);
  return b.substr(0, a.size()) == a &&
         b.find_first_not_of('\0', a.size()) == std::string_view::npos;
}

bool blocks_old_or_new(const std::string& old, const std::string& fresh,
                       const std::string& between) {
  if (between.size() != old.size() && between.size() != fresh.size()) return false;
  for (uint64_t i = 0; i * kBlockSize < between.size(); ++i) {
    const auto now = block(between, i);
    if (!same_bytes(now, block(old, i).substr(0, now.size())) &&
        !same_bytes(now, block(fresh, i).substr(0, now.size()))) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool same(const DirState& a, const DirState& b, std::string* why) {
  auto differ = [&](std::string text) {
    if (why != nullptr && why->empty()) *why = std::move(text);
    return false;
  };
  if (leaders(a) != leaders(b)) {
    std::string text = "names differ:";
    for (const auto& [name, id] : a.names) {
      if (b.names.count(name) == 0) text += " -" + name;
    }
    for (const auto& [name, id] : b.names) {
      if (a.names.count(name) == 0) text += " +" + name;
    }
    return differ(text);
  }
  for (const auto& [name, id] : a.names) {
    const FileState& x = a.files.at(id);
    const FileState& y = b.files.at(b.names.at(name));
    if (*x.content != *y.content) {
      const auto at =
          std::mismatch(x.content->begin(), x.content->end(), y.content->begin(), y.content->end());
      return differ(fmt::format("{}: sizes {} and {}, first difference at {}", name,
                                x.content->size(), y.content->size(),
                                at.first - x.content->begin()));
    }
    if (x.xattrs != y.xattrs) return differ(name + ": xattrs");
  }
  return true;
}

bool lies_between(const DirState& old, const DirState& fresh, const DirState& between) {
  if (leaders(old) != leaders(between) || leaders(fresh) != leaders(between)) return false;
  for (const auto& [name, id] : between.names) {
    const FileState& o = old.files.at(old.names.at(name));
    const FileState& f = fresh.files.at(fresh.names.at(name));
    const FileState& b = between.files.at(id);
    if (b.xattrs != o.xattrs && b.xattrs != f.xattrs) return false;
    if (!blocks_old_or_new(*o.content, *f.content, *b.content)) return false;
  }
  return true;
}

void History::issue(DirState next) {
  states_.push_back(std::make_shared<const DirState>(std::move(next)));
}

void History::take_back() {
  ASSERT(states_.size() > 1);
  states_.pop_back();
}

void History::durable(size_t index) {
  ASSERT(index < first_ + states_.size());
  if (index <= first_) return;
  states_.erase(states_.begin(), states_.begin() + static_cast<ptrdiff_t>(index - first_));
  first_ = index;
}

bool History::recover(const DirState& found, std::string* why) {
  for (size_t i = states_.size(); i-- > 0;) {
    const bool equal = same(*states_[i], found, i + 1 == states_.size() ? why : nullptr);
    if (equal || (i + 1 < states_.size() && lies_between(*states_[i], *states_[i + 1], found))) {
      // What is there now came from the devices, so it is durable.
      states_ = {std::make_shared<const DirState>(found)};
      return true;
    }
  }
  return false;
}

Result<DirState> read_state(fs::Filesystem& filesystem, InodeNumber directory) {
  DirState state;
  std::vector<std::pair<std::string, InodeNumber>> entries;
  TRY(filesystem.read_directory(directory, 0, false,
                                [&](const fs::DirEntry& entry, const fs::Attributes*) {
                                  if (entry.name != "." && entry.name != "..") {
                                    entries.emplace_back(entry.name, entry.ino);
                                  }
                                  return true;
                                }));
  for (const auto& [name, ino] : entries) {
    state.names[name] = ino.value;
    if (state.files.count(ino.value) != 0) continue;
    TRY(auto attributes, filesystem.attributes(ino));
    // Aligned memory: what the filesystem does must not depend on where the heap is.
    AlignedBuffer buffer(round_up(attributes.size + 1, kBlockSize));
    TRY(auto got, filesystem.read(ino, 0, buffer.span()));
    if (got != attributes.size) return Error(Errc::io_error, name + ": short read");
    std::string content(reinterpret_cast<const char*>(buffer.data()), got);
    FileState file{std::make_shared<const std::string>(std::move(content)), {}};
    TRY(auto names, filesystem.list_xattrs(ino));
    for (const auto& xattr : names) {
      TRY(auto value, filesystem.get_xattr(ino, xattr));
      file.xattrs[xattr] = {reinterpret_cast<const char*>(value.data()), value.size()};
    }
    state.files[ino.value] = std::move(file);
  }
  return state;
}

}  // namespace moltfs::sim
