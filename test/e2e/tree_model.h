// SPDX-License-Identifier: MIT
// A tree of files, directories and symbolic links in memory, and the operations on it that the tree
// exerciser draws from a seed.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "test/e2e/random.h"

namespace e2e {

struct Node {
  enum class Type : uint8_t { file, directory, link };
  uint64_t id = 0;
  Type type = Type::file;
  uint32_t mode = 0644;
  std::string content;  ///< of a file; where a link leads
  std::map<std::string, std::string> xattrs;
  std::map<std::string, std::shared_ptr<Node>> entries;  ///< of a directory
  uint32_t names = 1;
  bool is_directory() const { return type == Type::directory; }
};
using NodePtr = std::shared_ptr<Node>;

enum class Change : uint8_t {
  create,
  make_directory,
  make_link,
  write,
  truncate,
  punch,
  unlink,
  remove_directory,
  rename,
  exchange,
  hard_link,
  set_xattr,
  remove_xattr,
  change_mode,
  sync_file,
  look,
  checkpoint,
  brawl,
  count
};

struct TreeOperation {
  uint64_t number = 0;
  Change change = Change::look;
  std::string path, other;  ///< below the exerciser's directory
  uint64_t offset = 0, length = 0;
  std::string describe() const;
};

class TreeModel {
 public:
  explicit TreeModel(uint64_t seed);

  /// Draws the next operation; it can be done on the tree as it is.
  TreeOperation next();
  void apply(const TreeOperation& op);
  const Node& root() const { return *root_; }
  NodePtr find(const std::string& path) const;
  /// Path and node of everything, parents first; "" is the root.
  std::vector<std::pair<std::string, NodePtr>> all() const;

  /// What was changed since clear_changes(): nodes, and names in directories.
  bool is_changed(const Node& node) const { return changed_.contains(node.id); }
  bool is_changed(const Node& directory, const std::string& name) const {
    return changed_names_.contains({directory.id, name});
  }
  void clear_changes();
  const std::set<uint64_t>& changed() const { return changed_; }

 private:
  struct Place {
    NodePtr directory;
    std::string name;
  };
  Place place_of(const std::string& path) const;
  std::string draw_path(Node::Type type);
  std::string draw_new_path();
  bool draw_target(TreeOperation& op);
  void put(const std::string& path, NodePtr node);
  void take(const std::string& path);
  void apply_rename(const TreeOperation& op);
  void apply_to_file(const TreeOperation& op, Node& node);

  Random random_;
  uint64_t number_ = 0, next_id_ = 1;
  NodePtr root_;
  std::set<uint64_t> changed_;
  std::set<std::pair<uint64_t, std::string>> changed_names_;
};

}  // namespace e2e
