// SPDX-License-Identifier: MIT
// The tree exerciser: each process has a directory of its own, held against its model, and one that
// it shares with all others (brawl), where any answer will do that names allow.
#include <fcntl.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "test/e2e/exercise.h"
#include "test/e2e/tree_model.h"

namespace e2e {
namespace {

class Tree {
 public:
  Tree(const Settings& settings, uint64_t seed)
      : settings_(settings), seed_(seed), base_(settings.path + "/tree" + std::to_string(seed)) {}

  void make();
  void run(const TreeOperation& op, const TreeModel& before);
  /// Compares everything below the base with the model; `lenient`: except what was changed.
  void compare(const TreeModel& model, bool lenient,
               const std::vector<std::pair<std::string, NodePtr>>& expected);
  [[noreturn]] void wrong(const std::string& what);

 private:
  std::string at(const std::string& path) const { return base_ + path; }
  void expect(bool right, const char* call) {
    if (!right) failed(call);
  }
  [[noreturn]] void failed(const char* call);
  void run_on_name(const TreeOperation& op);
  void run_on_file(const TreeOperation& op, const Node& node);
  void checkpoint(const TreeModel& model);
  void sync_path(const std::string& path);
  void brawl(Random random);
  std::string read_whole(const std::string& path);
  void check_node(const std::string& path, const Node& node);
  void check_names(const std::string& path, const Node& node, const TreeModel& model, bool lenient);

  const Settings settings_;
  const uint64_t seed_;
  const std::string base_;
  TreeOperation op_;
};

void Tree::wrong(const std::string& what) {
  give_up_if_gone(settings_);
  fprintf(stderr,
          "exercise: WRONG at %s: %s\nexercise: again: exercise tree %s --seed %lu --ops %lu\n",
          op_.describe().c_str(), what.c_str(), settings_.path.c_str(), seed_, op_.number + 1);
  _exit(kWrong);
}

void Tree::failed(const char* call) {
  const std::string what = std::string(call) + ": " + strerror(errno);
  give_up_if_ending(settings_);
  wrong(what);
}

void Tree::make() {
  std::filesystem::remove_all(base_);
  expect(mkdir(base_.c_str(), 0755) == 0, "mkdir");
  mkdir((settings_.path + "/brawl").c_str(), 0755);
  sync_path(settings_.path);
  sync_path(base_);
}

void Tree::sync_path(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  expect(fd >= 0, "open for fsync");
  expect(fsync(fd) == 0, "fsync");
  close(fd);
}

/// All that was changed becomes durable.
void Tree::checkpoint(const TreeModel& model) {
  for (const auto& [path, node] : model.all()) {
    if (model.is_changed(*node) && node->type != Node::Type::link) sync_path(at(path));
  }
}

void Tree::run_on_name(const TreeOperation& op) {
  const std::string path = at(op.path), other = at(op.other);
  switch (op.change) {
    case Change::create: {
      const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
      expect(fd >= 0, "open O_CREAT");
      return expect(close(fd) == 0, "close");
    }
    case Change::make_directory:
      return expect(mkdir(path.c_str(), 0755) == 0, "mkdir");
    case Change::make_link:
      return expect(symlink(("to/" + std::to_string(op.number)).c_str(), path.c_str()) == 0,
                    "symlink");
    case Change::unlink:
      return expect(unlink(path.c_str()) == 0, "unlink");
    case Change::remove_directory:
      return expect(rmdir(path.c_str()) == 0, "rmdir");
    case Change::rename:
      return expect(rename(path.c_str(), other.c_str()) == 0, "rename");
    case Change::exchange:
      return expect(
          renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE) == 0,
          "renameat2");
    default:
      return expect(link(path.c_str(), other.c_str()) == 0, "link");
  }
}

void Tree::run_on_file(const TreeOperation& op, const Node& node) {
  const std::string path = at(op.path), bytes = pattern(op.number, op.offset, op.length);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  expect(fd >= 0, "open");
  const std::string name = "user.x" + std::to_string(op.offset % 4);
  switch (op.change) {
    case Change::write:
      expect(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(op.offset)) ==
                 static_cast<ssize_t>(bytes.size()),
             "pwrite");
      break;
    case Change::truncate:
      expect(ftruncate(fd, static_cast<off_t>(op.offset)) == 0, "ftruncate");
      break;
    case Change::punch:
      expect(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(op.offset), static_cast<off_t>(op.length)) == 0,
             "fallocate");
      break;
    case Change::set_xattr:
      expect(fsetxattr(fd, name.c_str(), bytes.data(), op.length % 300, 0) == 0, "fsetxattr");
      break;
    case Change::remove_xattr:
      if (node.xattrs.empty()) break;
      expect(fremovexattr(fd, node.xattrs.begin()->first.c_str()) == 0, "fremovexattr");
      break;
    case Change::change_mode:
      expect(fchmod(fd, 0600 | (op.offset & 0177)) == 0, "fchmod");
      break;
    case Change::sync_file:
      expect(fsync(fd) == 0, "fsync");
      break;
    default:
      check_node(path, node);
  }
  expect(close(fd) == 0, "close");
}

/// Any operation on a few names that everybody wants; only the errors that names make are right.
void Tree::brawl(Random random) {
  const auto name = [&] { return settings_.path + "/brawl/b" + std::to_string(random.below(20)); };
  const std::string from = name(), to = name();
  int result = 0;
  switch (random.below(7)) {
    case 0:
      result = mkdir(from.c_str(), 0755);
      break;
    case 1:
      result = rmdir(from.c_str());
      break;
    case 2:
      result = unlink(from.c_str());
      break;
    case 3:
      result = rename(from.c_str(), to.c_str());
      break;
    case 4:
      result = link(from.c_str(), to.c_str());
      break;
    case 5:
      result = truncate(from.c_str(), static_cast<off_t>(random.below(200000)));
      break;
    default: {
      const int fd = open(from.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
      result = fd;
      if (fd < 0) break;
      const std::string bytes = pattern(random.next(), 0, random.below(30000));
      expect(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(random.below(90000))) ==
                 static_cast<ssize_t>(bytes.size()),
             "pwrite");
      close(fd);
    }
  }
  if (result >= 0) return;
  for (const int fine : {ENOENT, EEXIST, ENOTDIR, EISDIR, ENOTEMPTY, EPERM, EINVAL}) {
    if (errno == fine) return;
  }
  failed("an operation in the shared directory");
}

void Tree::run(const TreeOperation& op, const TreeModel& before) {
  op_ = op;
  if (settings_.verbose) fprintf(stderr, "%s\n", op.describe().c_str());
  if (op.change == Change::checkpoint) return checkpoint(before);
  if (op.change == Change::brawl) return brawl(Random(seed_ ^ op.number));
  if (op.path.empty()) return;
  const bool on_name = op.change <= Change::make_link || op.change == Change::unlink ||
                       op.change == Change::remove_directory || op.change == Change::rename ||
                       op.change == Change::exchange || op.change == Change::hard_link;
  if (on_name) return run_on_name(op);
  run_on_file(op, *before.find(op.path));
}

std::string Tree::read_whole(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  expect(fd >= 0, "open to read");
  std::string bytes;
  char some[65536];
  for (ssize_t n = 0; (n = read(fd, some, sizeof some)) != 0;) {
    expect(n > 0, "read");
    bytes.append(some, static_cast<size_t>(n));
  }
  close(fd);
  return bytes;
}

void Tree::check_node(const std::string& path, const Node& node) {
  struct stat st {};
  expect(lstat(path.c_str(), &st) == 0, "lstat");
  if (node.type == Node::Type::link) {
    char to[300];
    const ssize_t n = readlink(path.c_str(), to, sizeof to);
    if (std::string(to, n < 0 ? 0 : static_cast<size_t>(n)) != node.content) wrong(path + ": link");
    return;
  }
  if ((st.st_mode & 07777) != node.mode) wrong(path + ": mode");
  if (node.is_directory()) return;
  if (st.st_nlink != node.names) wrong(path + ": " + std::to_string(st.st_nlink) + " names");
  if (read_whole(path) != node.content) wrong(path + ": content");
  char names[4096];
  const ssize_t length = listxattr(path.c_str(), names, sizeof names);
  expect(length >= 0, "listxattr");
  size_t count = 0;
  for (const char* name = names; name < names + length; name += strlen(name) + 1) ++count;
  if (count != node.xattrs.size()) wrong(path + ": number of xattrs");
  for (const auto& [name, value] : node.xattrs) {
    char got[512];
    const ssize_t n = getxattr(path.c_str(), name.c_str(), got, sizeof got);
    if (n < 0 || std::string(got, static_cast<size_t>(n)) != value) wrong(path + ": " + name);
  }
}

/// Nothing is there that should not be. After a crash also: everything can be read.
void Tree::check_names(const std::string& path, const Node& node, const TreeModel& model,
                       bool lenient) {
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (node.entries.contains(name) || (lenient && model.is_changed(node, name))) continue;
    wrong(path + ": " + name + " should not be there");
  }
}

void Tree::compare(const TreeModel& model, bool lenient,
                   const std::vector<std::pair<std::string, NodePtr>>& expected) {
  std::set<std::string> uncertain;  // paths of directories that may be elsewhere
  std::map<std::string, NodePtr> by_path(expected.begin(), expected.end());
  for (const auto& [path, node] : expected) {
    if (lenient && !path.empty()) {
      const size_t cut = path.rfind('/');
      const std::string parent = path.substr(0, cut);
      if (uncertain.contains(parent) ||
          model.is_changed(*by_path.at(parent), path.substr(cut + 1))) {
        uncertain.insert(path);
        continue;
      }
    }
    if (!lenient || !model.is_changed(*node)) check_node(at(path), *node);
    if (node->is_directory()) check_names(at(path), *node, model, lenient);
  }
  if (!lenient) return;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(base_)) {
    if (entry.is_regular_file() && !entry.is_symlink()) (void)read_whole(entry.path().string());
  }
}

/// The nodes as they are now, unchanged by later operations.
std::vector<std::pair<std::string, NodePtr>> snapshot(const TreeModel& model) {
  std::vector<std::pair<std::string, NodePtr>> nodes;
  for (const auto& [path, node] : model.all()) {
    nodes.emplace_back(path, std::make_shared<Node>(*node));
  }
  return nodes;
}

}  // namespace

int exercise_tree(const Settings& settings) {
  Tree tree(settings, settings.seed);
  TreeModel model(settings.seed);
  Journal journal(settings.journal);
  Journal::State state;
  state.seed = settings.seed;
  tree.make();
  journal.put(state);
  while (state.started < settings.operations && may_go_on(settings.seconds)) {
    const TreeOperation op = model.next();
    ++state.started;
    journal.put(state);
    tree.run(op, model);
    model.apply(op);
    if (op.change == Change::checkpoint) state.synced = state.started;
  }
  journal.put(state);
  tree.compare(model, false, model.all());
  printf("exercise tree: %lu operations, seed %lu\n", state.started, settings.seed);
  return kRight;
}

int verify_tree(const Settings& settings) {
  const Journal::State state = Journal::read(settings.journal);
  Tree tree(settings, state.seed);
  TreeModel model(state.seed);
  while (state.synced > 0) {
    const TreeOperation op = model.next();
    model.apply(op);
    if (op.number + 1 == state.synced) break;
  }
  model.clear_changes();
  const auto expected = snapshot(model);
  for (uint64_t i = state.synced; i < state.started; ++i) {
    const TreeOperation op = model.next();
    if (op.change != Change::checkpoint) model.apply(op);
  }
  tree.compare(model, true, expected);
  printf("exercise tree: right after %lu operations, %lu durable\n", state.started, state.synced);
  return kRight;
}

}  // namespace e2e
