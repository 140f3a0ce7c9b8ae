// SPDX-License-Identifier: MIT
// A tree in memory.
#include "test/e2e/tree_model.h"

#include <algorithm>
#include <array>

namespace e2e {
namespace {

constexpr uint64_t kLargest = 96 * 1024;
constexpr size_t kMostNodes = 300;

struct Named {
  const char* name;
  unsigned weight;
};
constexpr std::array<Named, static_cast<size_t>(Change::count)> kChanges = {{
    {"create", 14},
    {"make_directory", 5},
    {"make_link", 2},
    {"write", 24},
    {"truncate", 5},
    {"punch", 3},
    {"unlink", 8},
    {"remove_directory", 3},
    {"rename", 8},
    {"exchange", 2},
    {"hard_link", 3},
    {"set_xattr", 4},
    {"remove_xattr", 1},
    {"change_mode", 3},
    {"sync_file", 3},
    {"look", 10},
    {"checkpoint", 1},
    {"brawl", 6},
}};

void collect(const std::string& path, const NodePtr& node,
             std::vector<std::pair<std::string, NodePtr>>& into) {
  into.emplace_back(path, node);
  for (const auto& [name, child] : node->entries) collect(path + "/" + name, child, into);
}

}  // namespace

std::string TreeOperation::describe() const {
  std::string text =
      "#" + std::to_string(number) + " " + kChanges[static_cast<size_t>(change)].name + " " + path;
  if (!other.empty()) text += " " + other;
  return text + " [" + std::to_string(offset) + ", " + std::to_string(offset + length) + ")";
}

TreeModel::TreeModel(uint64_t seed) : random_(seed), root_(std::make_shared<Node>()) {
  root_->type = Node::Type::directory;
  root_->mode = 0755;
}

std::vector<std::pair<std::string, NodePtr>> TreeModel::all() const {
  std::vector<std::pair<std::string, NodePtr>> nodes;
  collect("", root_, nodes);
  return nodes;
}

TreeModel::Place TreeModel::place_of(const std::string& path) const {
  const size_t cut = path.rfind('/');
  return {find(path.substr(0, cut)), path.substr(cut + 1)};
}

NodePtr TreeModel::find(const std::string& path) const {
  NodePtr at = root_;
  for (size_t from = 1; from <= path.size() && at;) {
    const size_t cut = std::min(path.find('/', from), path.size());
    const auto found = at->entries.find(path.substr(from, cut - from));
    at = found == at->entries.end() ? nullptr : found->second;
    from = cut + 1;
  }
  return at;
}

void TreeModel::clear_changes() {
  changed_.clear();
  changed_names_.clear();
}

/// Something of that type; empty if there is nothing.
std::string TreeModel::draw_path(Node::Type type) {
  std::vector<std::string> paths;
  for (const auto& [path, node] : all()) {
    if (node->type == type) paths.push_back(path);
  }
  return paths.empty() ? std::string() : paths[random_.below(paths.size())];
}

std::string TreeModel::draw_new_path() {
  const std::string directory = draw_path(Node::Type::directory);
  std::string name = "n" + std::to_string(number_);
  if (random_.one_in(10)) name.append(200, 'x');
  return directory + "/" + name;
}

/// Where to rename to: a new name, or what the kind of `op.path` may replace.
bool TreeModel::draw_target(TreeOperation& op) {
  const NodePtr from = find(op.path);
  op.other = random_.one_in(2) ? draw_new_path() : draw_path(from->type);
  const auto within = [](const std::string& inner, const std::string& outer) {
    return inner == outer || inner.starts_with(outer + "/");
  };
  if (op.other.empty() || within(op.other, op.path) || within(op.path, op.other)) return false;
  const NodePtr over = find(op.other);
  if (op.change == Change::exchange) return over != nullptr && over != from;
  return !over || (over != from && over->entries.empty());
}

TreeOperation TreeModel::next() {
  unsigned total = 0;
  for (const Named& each : kChanges) total += each.weight;
  TreeOperation op;
  op.number = number_++;
  uint64_t dice = random_.below(total);
  size_t which = 0;
  while (dice >= kChanges[which].weight) dice -= kChanges[which++].weight;
  op.change = static_cast<Change>(which);
  const bool makes = op.change <= Change::make_link || op.change == Change::hard_link;
  if (makes && all().size() >= kMostNodes) op.change = Change::unlink;
  op.offset = random_.below(random_.one_in(3) ? kLargest : 8192);
  op.length = 1 + random_.below(random_.one_in(4) ? 40000 : 3000);
  op.length = std::min(op.length, kLargest - op.offset);
  switch (op.change) {
    case Change::create:
    case Change::make_directory:
    case Change::make_link:
      op.path = draw_new_path();
      return op;
    case Change::remove_directory:
      op.path = draw_path(Node::Type::directory);
      if (!op.path.empty() && find(op.path)->entries.empty()) return op;
      break;
    case Change::rename:
    case Change::exchange:
      op.path = draw_path(random_.one_in(3) ? Node::Type::directory : Node::Type::file);
      if (!op.path.empty() && draw_target(op)) return op;
      break;
    case Change::hard_link:
      op.path = draw_path(Node::Type::file);
      op.other = draw_new_path();
      if (!op.path.empty()) return op;
      break;
    case Change::unlink:
      op.path = draw_path(random_.one_in(8) ? Node::Type::link : Node::Type::file);
      if (!op.path.empty()) return op;
      break;
    case Change::checkpoint:
    case Change::brawl:
      return op;
    default:
      op.path = draw_path(Node::Type::file);
      if (!op.path.empty()) return op;
      break;
  }
  op.change = Change::look;
  op.path.clear();
  op.other.clear();
  return op;
}

void TreeModel::put(const std::string& path, NodePtr node) {
  const Place place = place_of(path);
  changed_names_.insert({place.directory->id, place.name});
  changed_.insert(place.directory->id);
  changed_.insert(node->id);
  place.directory->entries[place.name] = std::move(node);
}

void TreeModel::take(const std::string& path) {
  const Place place = place_of(path);
  const auto at = place.directory->entries.find(place.name);
  changed_names_.insert({place.directory->id, place.name});
  changed_.insert(place.directory->id);
  changed_.insert(at->second->id);
  place.directory->entries.erase(at);
}

void TreeModel::apply_rename(const TreeOperation& op) {
  const NodePtr node = find(op.path), over = find(op.other);
  if (op.change == Change::exchange) {
    put(op.path, over);
    put(op.other, node);
    return;
  }
  if (over) {
    --over->names;
    take(op.other);
  }
  take(op.path);
  put(op.other, node);
}

void TreeModel::apply_to_file(const TreeOperation& op, Node& node) {
  changed_.insert(node.id);
  const std::string bytes = pattern(op.number, op.offset, op.length);
  switch (op.change) {
    case Change::write:
      if (node.content.size() < op.offset + op.length) node.content.resize(op.offset + op.length);
      node.content.replace(op.offset, op.length, bytes);
      break;
    case Change::truncate:
      node.content.resize(op.offset);
      break;
    case Change::punch:
      for (uint64_t i = op.offset; i < std::min(op.offset + op.length, node.content.size()); ++i) {
        node.content[i] = '\0';
      }
      break;
    case Change::set_xattr:
      node.xattrs["user.x" + std::to_string(op.offset % 4)] = bytes.substr(0, op.length % 300);
      break;
    case Change::remove_xattr:
      if (!node.xattrs.empty()) node.xattrs.erase(node.xattrs.begin());
      break;
    case Change::change_mode:
      node.mode = 0600 | (op.offset & 0177);
      break;
    default:
      break;
  }
}

void TreeModel::apply(const TreeOperation& op) {
  switch (op.change) {
    case Change::create:
    case Change::make_directory:
    case Change::make_link: {
      auto node = std::make_shared<Node>();
      node->id = next_id_++;
      if (op.change == Change::make_directory) node->type = Node::Type::directory;
      if (op.change == Change::make_directory) node->mode = 0755;
      if (op.change == Change::make_link) node->type = Node::Type::link;
      if (op.change == Change::make_link) node->content = "to/" + std::to_string(op.number);
      return put(op.path, node);
    }
    case Change::unlink:
      --find(op.path)->names;
      return take(op.path);
    case Change::remove_directory:
      return take(op.path);
    case Change::rename:
    case Change::exchange:
      return apply_rename(op);
    case Change::hard_link: {
      const NodePtr node = find(op.path);
      ++node->names;
      return put(op.other, node);
    }
    case Change::sync_file:
    case Change::look:
    case Change::brawl:
      return;
    case Change::checkpoint:
      return clear_changes();
    default:
      return apply_to_file(op, *find(op.path));
  }
}

}  // namespace e2e
