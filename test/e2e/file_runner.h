// SPDX-License-Identifier: MIT
// Does the file exerciser's operations on real files and holds what comes back against the model.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "test/e2e/exercise.h"
#include "test/e2e/file_operation.h"

namespace e2e {

std::string file_path(const Settings& settings, int file);

/// One file under test, with its descriptors and a shared mapping of its largest size.
class TestFile {
 public:
  /// Does not come back; errno is that of the call.
  using Failed = std::function<void(const char* call)>;
  TestFile(std::string path, uint64_t max_size, Failed failed);
  ~TestFile();
  TestFile(const TestFile&) = delete;
  TestFile& operator=(const TestFile&) = delete;

  const std::string& path() const { return path_; }
  /// Opened with `extra` (0, O_APPEND, O_DIRECT, O_SYNC) when first asked for.
  int fd(int extra = 0);
  char* mapping();
  /// Descriptors only, or the mapping too.
  void close_all(bool unmap);

 private:
  const std::string path_;
  const uint64_t max_size_;
  const Failed failed_;
  struct Open {
    int extra, fd;
  };
  std::vector<Open> open_;
  char* mapping_ = nullptr;
};

class FileRunner {
 public:
  explicit FileRunner(const Settings& settings);
  ~FileRunner();

  /// `before`: the model before the operation.
  void run(const Operation& op, const Models& before);
  /// All bytes and the size of a file.
  void compare(int file, const FileModel& model);

 private:
  void run_read(const Operation& op, const FileModel& model);
  void run_write(const Operation& op, const FileModel& model);
  void run_mapped(const Operation& op, const FileModel& model);
  void run_change(const Operation& op, const FileModel& model);
  void run_between(const Operation& op, const Models& before);
  void run_rest(const Operation& op, const Models& before);
  void check_end_of_mapping(const FileModel& model);
  void check_seek(const FileModel& model);
  uint64_t seek(uint64_t from, int whence, uint64_t size);
  void expect_bytes(const char* got, uint64_t length, const FileModel& model, uint64_t offset);
  void expect_count(ssize_t got, uint64_t want, const char* call);
  [[noreturn]] void wrong(const std::string& what);
  [[noreturn]] void failed(const std::string& call);
  TestFile& file(int number) { return *files_[static_cast<size_t>(number)]; }

  const Settings settings_;
  std::array<std::unique_ptr<TestFile>, kFiles> files_;
  std::deque<Operation> history_;
  Operation op_;
  int pipe_[2] = {-1, -1};
  bool knows_collapse_ = false;  ///< the filesystem collapses ranges; the model does not
};

}  // namespace e2e
