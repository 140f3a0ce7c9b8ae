// SPDX-License-Identifier: MIT
// Random operations on names against an in-memory model, with remounts and crashes: after a crash
// everything is as at the last sync, names, links, parents and orphans included.
#include <sys/stat.h>

#include <map>
#include <random>
#include <set>

#include "fs/names/names_test_util.h"

namespace moltfs::fs {
namespace {

using test::code_of;
using test::must;
using test::TestFilesystem;

constexpr uint64_t kRootNumber = kRootInode.value;
constexpr Caller kCaller{};

struct Node {
  uint32_t type = 0;
  uint32_t links = 0;
  uint64_t parent = 0;                      // directories
  std::map<std::string, uint64_t> entries;  // directories
  std::string target;                       // symlinks
};

/// Everything that has a name or is held.
struct Model {
  std::map<uint64_t, Node> nodes;

  bool is_directory(uint64_t ino) const { return nodes.at(ino).type == S_IFDIR; }
  std::optional<uint64_t> find(uint64_t directory, const std::string& name) const {
    const auto& entries = nodes.at(directory).entries;
    auto found = entries.find(name);
    if (found == entries.end()) return std::nullopt;
    return found->second;
  }
  bool is_within(uint64_t directory, uint64_t ancestor) const {
    for (; directory != ancestor; directory = nodes.at(directory).parent) {
      if (directory == kRootNumber) return false;
    }
    return true;
  }
  void add(uint64_t directory, const std::string& name, uint64_t ino) {
    nodes[directory].entries[name] = ino;
    if (!is_directory(ino)) return;
    nodes[ino].parent = directory;
    ++nodes[directory].links;
  }
  /// Takes the name away; the inode keeps its links.
  uint64_t take(uint64_t directory, const std::string& name) {
    const uint64_t ino = nodes[directory].entries.at(name);
    nodes[directory].entries.erase(name);
    if (is_directory(ino)) --nodes[directory].links;
    return ino;
  }
  void unlink(uint64_t directory, const std::string& name) {
    const uint64_t ino = take(directory, name);
    nodes[ino].links = is_directory(ino) ? 0 : nodes[ino].links - 1;
  }
};

class Walk {
 public:
  explicit Walk(unsigned seed, const Filesystem::Options& options)
      : hashes_are_cut_(~options.name_hash_mask != 0), random_(seed), fs_(256ull << 20, options) {
    model_.nodes[kRootNumber] = {S_IFDIR, 2, kRootNumber, {}, {}};
    synced_ = model_;
    must(fs_->sync());
  }

  void run(unsigned steps) {
    for (unsigned i = 0; i < steps; ++i) {
      step();
      if (i % 500 == 499) compare();
    }
    release_all();
    fs_.remount();
    compare();
    fs_.drain();
    CHECK(fs_.inode_count() == model_.nodes.size());
    CHECK(fs_.count_items(ItemType::inode) == model_.nodes.size());
    CHECK(fs_.count_items(ItemType::orphan) == 0);
    // check hashes names in full.
    if (!hashes_are_cut_) fs_.unmount_and_check();
  }

 private:
  using Expected = std::optional<Errc>;

  unsigned below(unsigned n) { return static_cast<unsigned>(random_() % n); }
  std::string name() { return "name" + std::to_string(below(24)); }
  uint64_t directory() {
    std::vector<uint64_t> live;
    for (const auto& [ino, node] : model_.nodes) {
      if (node.type == S_IFDIR && node.links != 0) live.push_back(ino);
    }
    return live[below(static_cast<unsigned>(live.size()))];
  }
  /// An inode that is no directory, with or without names; or root.
  uint64_t file() {
    std::vector<uint64_t> live{kRootNumber};
    for (const auto& [ino, node] : model_.nodes) {
      if (node.type != S_IFDIR) live.push_back(ino);
    }
    return live[below(static_cast<unsigned>(live.size()))];
  }

  /// Keeps the reference that an operation gave, or gives it back.
  void got(uint64_t ino) {
    if (below(3) == 0) {
      ++held_[ino];
    } else {
      fs_->forget(InodeNumber{ino}, 1);
    }
  }
  void forget_lost() {
    std::erase_if(model_.nodes, [&](const auto& item) {
      return item.second.links == 0 && !held_.contains(item.first);
    });
  }
  void release_all() {
    for (const auto& [ino, count] : held_) fs_->forget(InodeNumber{ino}, count);
    held_.clear();
    forget_lost();
  }

  void step() {
    const unsigned kind = below(1000);
    if (kind < 200) return make();
    if (kind < 260) return make_symlink();
    if (kind < 360) return link();
    if (kind < 500) return unlink();
    if (kind < 580) return remove_directory();
    if (kind < 880) return rename();
    if (kind < 910) return make_unnamed();
    if (kind < 970) return forget();
    if (kind < 990) return sync();
    if (kind < 994) return remount();
    if (kind < 998) return crash();
    release_all();
  }

  void make() {
    const uint64_t parent = directory();
    const std::string entry = name();
    const uint32_t type = below(2) ? S_IFDIR : S_IFREG;
    const Expected expected =
        model_.find(parent, entry) ? Expected(Errc::already_exists) : std::nullopt;
    auto made = fs_->make(InodeNumber{parent}, entry, type | 0700, 0, kCaller);
    REQUIRE(code_of(made) == expected);
    if (!made) return;
    const uint64_t ino = made.value().ino.value;
    model_.nodes[ino] = {type, type == S_IFDIR ? 2u : 1u, 0, {}, {}};
    model_.add(parent, entry, ino);
    got(ino);
  }

  void make_symlink() {
    const uint64_t parent = directory();
    const std::string entry = name(), target(1 + below(4095), 't');
    const Expected expected =
        model_.find(parent, entry) ? Expected(Errc::already_exists) : std::nullopt;
    auto made = fs_->symlink(InodeNumber{parent}, entry, target, kCaller);
    REQUIRE(code_of(made) == expected);
    if (!made) return;
    const uint64_t ino = made.value().ino.value;
    model_.nodes[ino] = {S_IFLNK, 1, 0, {}, target};
    model_.add(parent, entry, ino);
    got(ino);
  }

  void make_unnamed() {
    const uint64_t ino = must(fs_->make_unnamed(InodeNumber{directory()}, 0600, kCaller)).ino.value;
    model_.nodes[ino] = {S_IFREG, 0, 0, {}, {}};
    got(ino);
    forget_lost();
  }

  void link() {
    const uint64_t ino = file(), parent = directory();
    const std::string entry = name();
    Expected expected;
    if (model_.is_directory(ino)) {
      expected = Errc::not_permitted;
    } else if (model_.find(parent, entry)) {
      expected = Errc::already_exists;
    }
    auto linked = fs_->link(InodeNumber{ino}, InodeNumber{parent}, entry);
    REQUIRE(code_of(linked) == expected);
    if (!linked) return;
    ++model_.nodes[ino].links;
    model_.add(parent, entry, ino);
    got(ino);
  }

  void unlink() {
    const uint64_t parent = directory();
    const std::string entry = name();
    const auto ino = model_.find(parent, entry);
    Expected expected;
    if (!ino) {
      expected = Errc::not_found;
    } else if (model_.is_directory(*ino)) {
      expected = Errc::is_a_directory;
    }
    REQUIRE(code_of(fs_->unlink(InodeNumber{parent}, entry)) == expected);
    if (expected) return;
    model_.unlink(parent, entry);
    forget_lost();
  }

  void remove_directory() {
    const uint64_t parent = directory();
    const std::string entry = name();
    const auto ino = model_.find(parent, entry);
    Expected expected;
    if (!ino) {
      expected = Errc::not_found;
    } else if (!model_.is_directory(*ino)) {
      expected = Errc::not_a_directory;
    } else if (!model_.nodes[*ino].entries.empty()) {
      expected = Errc::directory_not_empty;
    }
    REQUIRE(code_of(fs_->remove_directory(InodeNumber{parent}, entry)) == expected);
    if (expected) return;
    model_.unlink(parent, entry);
    forget_lost();
  }

  Expected expected_of_rename(uint64_t from, const std::string& name, uint64_t to,
                              const std::string& new_name, RenameMode mode) {
    const auto moved = model_.find(from, name), there = model_.find(to, new_name);
    if (!moved) return Errc::not_found;
    if (moved == there) {
      return mode == RenameMode::no_replace ? Expected(Errc::already_exists) : std::nullopt;
    }
    if (mode == RenameMode::exchange && !there) return Errc::not_found;
    if (mode == RenameMode::no_replace && there) return Errc::already_exists;
    const bool directory = model_.is_directory(*moved);
    if (directory && from != to && model_.is_within(to, *moved)) return Errc::invalid_argument;
    if (!there) return std::nullopt;
    const bool over_directory = model_.is_directory(*there);
    if (mode == RenameMode::exchange) {
      const bool loop = over_directory && from != to && model_.is_within(from, *there);
      return loop ? Expected(Errc::invalid_argument) : std::nullopt;
    }
    if (directory && !over_directory) return Errc::not_a_directory;
    if (!directory && over_directory) return Errc::is_a_directory;
    if (over_directory && !model_.nodes[*there].entries.empty()) return Errc::directory_not_empty;
    return std::nullopt;
  }

  void rename() {
    const uint64_t from = directory(), to = below(3) ? directory() : from;
    const std::string old_name = name(), new_name = name();
    const auto mode = static_cast<RenameMode>(below(4));
    const Expected expected = expected_of_rename(from, old_name, to, new_name, mode);
    auto renamed =
        fs_->rename(InodeNumber{from}, old_name, InodeNumber{to}, new_name, mode, kCaller);
    REQUIRE(code_of(renamed) == expected);
    const auto there = model_.find(to, new_name);
    if (expected || model_.find(from, old_name) == there) return;
    if (mode == RenameMode::exchange) {
      const uint64_t a = model_.take(from, old_name), b = model_.take(to, new_name);
      model_.add(from, old_name, b);
      model_.add(to, new_name, a);
      return;
    }
    if (there) model_.unlink(to, new_name);
    const uint64_t moved = model_.take(from, old_name);
    model_.add(to, new_name, moved);
    if (mode == RenameMode::whiteout) {
      const Attributes whiteout = must(fs_->lookup(InodeNumber{from}, old_name));
      model_.nodes[whiteout.ino.value] = {S_IFCHR, 1, 0, {}, {}};
      model_.add(from, old_name, whiteout.ino.value);
      got(whiteout.ino.value);
    }
    forget_lost();
  }

  void forget() {
    if (held_.empty()) return;
    auto which = std::next(held_.begin(), below(static_cast<unsigned>(held_.size())));
    fs_->forget(InodeNumber{which->first}, which->second);
    held_.erase(which);
    forget_lost();
  }

  void sync() {
    must(fs_->sync());
    synced_ = model_;
  }

  void remount() {
    held_.clear();
    forget_lost();
    fs_.remount();
    synced_ = model_;
    compare();
  }

  void crash() {
    held_.clear();
    model_ = synced_;
    forget_lost();
    fs_.crash();
    compare();
  }

  void compare() {
    for (const auto& [ino, node] : model_.nodes) {
      INFO("inode " << ino);
      const Attributes found = must(fs_->attributes(InodeNumber{ino}));
      CHECK(found.links == node.links);
      CHECK((found.mode & S_IFMT) == node.type);
      if (node.type == S_IFLNK) CHECK(must(fs_->read_symlink(InodeNumber{ino})) == node.target);
      if (node.type == S_IFDIR) compare_directory(ino, node, found);
    }
  }

  void compare_directory(uint64_t ino, const Node& node, const Attributes& found) {
    std::map<std::string, uint64_t> entries;
    if (node.links != 0) CHECK(found.parent.value == node.parent);
    must(fs_->read_directory(InodeNumber{ino}, 0, true,
                             [&](const DirEntry& entry, const Attributes* attributes) {
                               if (!attributes) return true;  // "." and ".."
                               CHECK(attributes->ino == entry.ino);
                               CHECK(entry.type == (attributes->mode & S_IFMT) >> 12);
                               entries[entry.name] = entry.ino.value;
                               fs_->forget(entry.ino, 1);
                               return true;
                             }));
    CHECK(entries == node.entries);
    uint64_t size = 0;
    for (const auto& [name, child] : node.entries) size += entry_size_bytes(name.size());
    CHECK(found.size == size);
  }

  const bool hashes_are_cut_;
  std::mt19937 random_;
  TestFilesystem fs_;
  Model model_, synced_;
  std::map<uint64_t, uint64_t> held_;  // references kept
};

TEST_CASE("names agree with the model") {
  for (unsigned seed = 1; seed <= 3; ++seed) {
    INFO("seed " << seed);
    Walk(seed, {}).run(4000);
  }
}

TEST_CASE("names with equal hashes agree with the model") {
  Filesystem::Options options;
  options.name_hash_mask = 0x300;
  Walk(7, options).run(4000);
}

/// One of several at once, all on the same few names. What each call answers is up to chance; what
/// must hold in the end is that everything still fits together.
void disturb(TestFilesystem& fs, unsigned seed, const std::vector<InodeNumber>& directories) {
  std::mt19937 random(seed);
  const auto directory = [&] { return directories[random() % directories.size()]; };
  const auto name = [&] { return "name" + std::to_string(random() % 12); };
  const auto drop = [&](const Result<Attributes>& made) {
    if (made) fs->forget(made.value().ino, 1);
  };
  for (unsigned step = 0; step < 2000; ++step) {
    switch (random() % 10) {
      case 0:
        drop(fs->make(directory(), name(), S_IFREG | 0644, 0, kCaller));
        break;
      case 1:
        drop(fs->make(directory(), name(), S_IFDIR | 0755, 0, kCaller));
        break;
      case 2:
        (void)fs->unlink(directory(), name());
        break;
      case 3:
        (void)fs->remove_directory(directory(), name());
        break;
      case 4:
        if (auto found = fs->lookup(directory(), name())) {
          drop(fs->link(found.value().ino, directory(), name()));
          fs->forget(found.value().ino, 1);
        }
        break;
      case 5:
        (void)fs->read_directory(directory(), 0, true,
                                 [&](const DirEntry& entry, const Attributes* attributes) {
                                   if (attributes) fs->forget(entry.ino, 1);
                                   return true;
                                 });
        break;
      case 6:
        if (step % 50 == 0) (void)fs->sync();
        break;
      default:
        (void)fs->rename(directory(), name(), directory(), name(),
                         static_cast<RenameMode>(random() % 4), kCaller);
    }
  }
}

TEST_CASE("after many tasks changed the same names, check finds nothing") {
  TestFilesystem fs;
  std::vector<InodeNumber> directories{kRootInode};
  // Held, so that they stay known even when they lose their names.
  for (const char* name : {"a", "b", "c"}) {
    directories.push_back(must(fs->make(kRootInode, name, S_IFDIR | 0755, 0, kCaller)).ino);
  }
  std::vector<std::unique_ptr<Task>> tasks;
  for (unsigned i = 0; i < 4; ++i) {
    tasks.push_back(
        fs.runtime.spawn("disturb", [&fs, &directories, i] { disturb(fs, i, directories); }));
  }
  for (const auto& task : tasks) task->join();
  for (size_t i = 1; i < directories.size(); ++i) fs->forget(directories[i], 1);
  fs.unmount_and_check();
}

}  // namespace
}  // namespace moltfs::fs
