// SPDX-License-Identifier: MIT
// The system calls of the file exerciser, and the checks of what they give.
#include "test/e2e/file_runner.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace e2e {
namespace {

constexpr size_t kHistory = 40;
constexpr uint64_t kPipeBytes = 64 * 1024;

sigjmp_buf fault_jump;
volatile sig_atomic_t fault_expected = 0;

void on_fault(int number) {
  if (fault_expected != 0) siglongjmp(fault_jump, 1);
  signal(number, SIG_DFL);
  raise(number);
}

/// memcpy that a SIGBUS ends: false.
bool copy_guarded(char* to, const char* from, size_t length) {
  if (sigsetjmp(fault_jump, 1) != 0) {
    fault_expected = 0;
    return false;
  }
  fault_expected = 1;
  std::memcpy(to, from, length);
  asm volatile("" ::: "memory");
  fault_expected = 0;
  return true;
}

uint64_t block_down(uint64_t at) {
  return at / kBlock * kBlock;
}
uint64_t block_up(uint64_t at) {
  return block_down(at + kBlock - 1);
}

/// Memory for direct I/O.
struct Aligned {
  explicit Aligned(size_t size) : data(static_cast<char*>(aligned_alloc(kBlock, block_up(size)))) {}
  ~Aligned() { free(data); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  char* const data;
};

}  // namespace

std::string file_path(const Settings& settings, int file) {
  return settings.path + "/file" + std::to_string(file) + "-" + std::to_string(settings.seed);
}

TestFile::TestFile(std::string path, uint64_t max_size, Failed failed)
    : path_(std::move(path)),
      max_size_(block_up(max_size) + 4 * kBlock),
      failed_(std::move(failed)) {
  const int made = open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (made < 0) give_up(kBroken, "create " + path_);
  close(made);
}

TestFile::~TestFile() {
  close_all(true);
}

int TestFile::fd(int extra) {
  for (const Open& each : open_) {
    if (each.extra == extra) return each.fd;
  }
  const int made = open(path_.c_str(), O_RDWR | O_CLOEXEC | extra);
  if (made < 0) failed_("open");
  open_.push_back({extra, made});
  return made;
}

char* TestFile::mapping() {
  if (mapping_ == nullptr) {
    void* at = mmap(nullptr, max_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd(), 0);
    if (at == MAP_FAILED) failed_("mmap");
    mapping_ = static_cast<char*>(at);
  }
  return mapping_;
}

void TestFile::close_all(bool unmap) {
  for (const Open& each : open_) {
    if (close(each.fd) != 0) failed_("close");
  }
  open_.clear();
  if (unmap && mapping_ != nullptr) {
    munmap(mapping_, max_size_);
    mapping_ = nullptr;
  }
}

FileRunner::FileRunner(const Settings& settings) : settings_(settings) {
  for (int i = 0; i < kFiles; ++i) {
    files_[static_cast<size_t>(i)] = std::make_unique<TestFile>(
        file_path(settings, i), settings.max_size, [this](const char* call) { failed(call); });
  }
  if (pipe2(pipe_, O_CLOEXEC) != 0) give_up(kBroken, "pipe");
  const int fd = file(0).fd();
  knows_collapse_ =
      ftruncate(fd, 2 * kBlock) == 0 && fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, kBlock) == 0;
  if (ftruncate(fd, 0) != 0) failed("ftruncate");
  struct sigaction action {};
  action.sa_handler = on_fault;
  sigaction(SIGBUS, &action, nullptr);
}

FileRunner::~FileRunner() {
  close(pipe_[0]);
  close(pipe_[1]);
}

void FileRunner::wrong(const std::string& what) {
  give_up_if_gone(settings_);
  fprintf(stderr, "exercise: WRONG at %s: %s\n", op_.describe().c_str(), what.c_str());
  for (const Operation& each : history_) fprintf(stderr, "    %s\n", each.describe().c_str());
  fprintf(stderr, "exercise: again: exercise file %s --seed %lu --ops %lu --size %lu%s%s%s\n",
          settings_.path.c_str(), settings_.seed, op_.number + 1, settings_.max_size,
          settings_.drop_caches ? " --drop-caches" : "", settings_.pollute ? " --pollute" : "",
          settings_.exact_holes ? " --exact-holes" : "");
  _exit(kWrong);
}

void FileRunner::failed(const std::string& call) {
  const std::string what = call + ": " + strerror(errno);
  give_up_if_ending(settings_);
  wrong(what);
}

void FileRunner::expect_count(ssize_t got, uint64_t want, const char* call) {
  if (got < 0) failed(call);
  if (static_cast<uint64_t>(got) != want) {
    wrong(std::string(call) + " gave " + std::to_string(got) + " of " + std::to_string(want));
  }
}

void FileRunner::expect_bytes(const char* got, uint64_t length, const FileModel& model,
                              uint64_t offset) {
  const char* want = model.bytes().data() + offset;
  if (std::memcmp(got, want, length) == 0) return;
  uint64_t i = 0, count = 0;
  while (got[i] == want[i]) ++i;
  for (uint64_t k = i; k < length; ++k) count += got[k] != want[k];
  char text[160];
  snprintf(text, sizeof text, "byte %#lx is %02x, not %02x; %lu bytes differ; the size is %#lx",
           offset + i, static_cast<unsigned char>(got[i]), static_cast<unsigned char>(want[i]),
           count, model.size());
  wrong(text);
}

void FileRunner::run_read(const Operation& op, const FileModel& model) {
  const uint64_t want =
      op.offset >= model.size() ? 0 : std::min<uint64_t>(op.length, model.size() - op.offset);
  if (op.kind == Kind::pipe_read) {
    loff_t at = static_cast<loff_t>(op.offset);
    const uint64_t most = std::min(want, kPipeBytes / 2);
    std::string got(most, '\0');
    const ssize_t moved = splice(file(op.file).fd(), &at, pipe_[1], nullptr, most, 0);
    if (most == 0) return;
    if (moved <= 0) failed("splice from the file");
    expect_count(::read(pipe_[0], got.data(), got.size()), static_cast<uint64_t>(moved), "read");
    return expect_bytes(got.data(), static_cast<uint64_t>(moved), model, op.offset);
  }
  const bool direct = op.kind == Kind::direct_read;
  const uint64_t offset = direct ? block_down(op.offset) : op.offset;
  const uint64_t length = direct ? block_up(op.length) : op.length;
  const uint64_t there = offset >= model.size() ? 0 : std::min(length, model.size() - offset);
  const Aligned got(length);
  const int fd = file(op.file).fd(direct ? O_DIRECT : 0);
  expect_count(pread(fd, got.data, length, static_cast<off_t>(offset)), there, "pread");
  expect_bytes(got.data, there, model, offset);
}

void FileRunner::run_write(const Operation& op, const FileModel&) {
  if (op.length == 0) return;
  const std::string bytes = pattern(op.number, op.offset, op.length);
  const auto at = static_cast<off_t>(op.offset);
  TestFile& to = file(op.file);
  switch (op.kind) {
    case Kind::append:
      return expect_count(::write(to.fd(O_APPEND), bytes.data(), bytes.size()), op.length, "write");
    case Kind::sync_write:
      return expect_count(pwrite(to.fd(O_SYNC), bytes.data(), bytes.size(), at), op.length,
                          "pwrite O_SYNC");
    case Kind::direct_write: {
      const Aligned buffer(op.length);
      std::memcpy(buffer.data, bytes.data(), op.length);
      return expect_count(pwrite(to.fd(O_DIRECT), buffer.data, op.length, at), op.length,
                          "pwrite O_DIRECT");
    }
    case Kind::write_vector: {
      const size_t cut = bytes.size() / 3;
      char* data = const_cast<char*>(bytes.data());
      const iovec parts[2] = {{data, cut}, {data + cut, bytes.size() - cut}};
      return expect_count(pwritev2(to.fd(), parts, 2, at, op.flag ? RWF_DSYNC : 0), op.length,
                          "pwritev2");
    }
    case Kind::pipe_write:
      for (uint64_t done = 0; done < op.length;) {
        const uint64_t some = std::min(op.length - done, kPipeBytes / 2);
        expect_count(::write(pipe_[1], bytes.data() + done, some), some, "write to a pipe");
        for (uint64_t out = 0; out < some;) {
          loff_t where = static_cast<loff_t>(op.offset + done + out);
          const ssize_t n = splice(pipe_[0], nullptr, to.fd(), &where, some - out, 0);
          if (n <= 0) failed("splice to the file");
          out += static_cast<uint64_t>(n);
        }
        done += some;
      }
      return;
    default:
      return expect_count(pwrite(to.fd(), bytes.data(), bytes.size(), at), op.length, "pwrite");
  }
}

/// What lies after the end of the file: zeros, then nothing.
void FileRunner::check_end_of_mapping(const FileModel& model) {
  char* map = file(op_.file).mapping();
  const uint64_t end = block_up(model.size());
  char bytes[kBlock];
  if (end > model.size()) {
    const uint64_t tail = end - model.size();
    if (!copy_guarded(bytes, map + model.size(), tail)) failed("SIGBUS in the last page");
    const bool zeros = std::all_of(bytes, bytes + tail, [](char c) { return c == 0; });
    if (!zeros && !settings_.pollute) wrong("a mapping shows bytes after the end of the file");
    if (settings_.pollute) {
      std::memset(bytes, 'x', tail);
      if (!copy_guarded(map + model.size(), bytes, tail)) failed("SIGBUS in the last page");
    }
  }
  if (copy_guarded(bytes, map + end, 1)) wrong("no SIGBUS beyond the last page");
}

void FileRunner::run_mapped(const Operation& op, const FileModel& model) {
  errno = 0;
  if (op.kind == Kind::beyond_end) return check_end_of_mapping(model);
  if (op.offset >= model.size()) return;
  const uint64_t length = std::min(op.length, model.size() - op.offset);
  TestFile& on = file(op.file);
  const auto faulted = [&] { wrong("SIGBUS within the file"); };
  const std::string bytes = pattern(op.number, op.offset, length);
  std::string got(length, '\0');
  if (op.kind == Kind::map_write) {
    if (!copy_guarded(on.mapping() + op.offset, bytes.data(), length)) faulted();
    const uint64_t first = block_down(op.offset);
    if (op.flag && msync(on.mapping() + first, op.end() - first, MS_SYNC) != 0) failed("msync");
    return;
  }
  if (op.kind == Kind::map_read) {
    if (!copy_guarded(got.data(), on.mapping() + op.offset, length)) faulted();
    return expect_bytes(got.data(), length, model, op.offset);
  }
  const uint64_t mapped = block_up(model.size());
  void* at = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE, on.fd(), 0);
  if (at == MAP_FAILED) failed("mmap MAP_PRIVATE");
  char* own = static_cast<char*>(at);
  if (!copy_guarded(got.data(), own + op.offset, length)) faulted();
  expect_bytes(got.data(), length, model, op.offset);
  if (!copy_guarded(own + op.offset, bytes.data(), length)) faulted();
  if (std::memcmp(own + op.offset, bytes.data(), length) != 0) wrong("a private mapping forgets");
  munmap(at, mapped);
}

void FileRunner::run_change(const Operation& op, const FileModel&) {
  const auto offset = static_cast<off_t>(op.offset), length = static_cast<off_t>(op.length);
  TestFile& on = file(op.file);
  const int keep = op.flag ? FALLOC_FL_KEEP_SIZE : 0;
  switch (op.kind) {
    case Kind::truncate:
      if ((op.flag ? truncate(on.path().c_str(), offset) : ftruncate(on.fd(), offset)) != 0) {
        failed("truncate");
      }
      return;
    case Kind::punch:
      if (fallocate(on.fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) != 0) {
        failed("fallocate, punch hole");
      }
      return;
    case Kind::zero:
      if (fallocate(on.fd(), FALLOC_FL_ZERO_RANGE | keep, offset, length) != 0) {
        failed("fallocate, zero range");
      }
      return;
    case Kind::allocate:
      if (fallocate(on.fd(), keep, offset, length) != 0) failed("fallocate");
      return;
    default:
      if (knows_collapse_) return;
      if (fallocate(on.fd(), op.flag ? FALLOC_FL_COLLAPSE_RANGE : FALLOC_FL_INSERT_RANGE,
                    static_cast<off_t>(block_down(op.offset)), kBlock) == 0) {
        wrong("collapse or insert range works now and then");
      }
      if (errno != EOPNOTSUPP) failed("collapse or insert range");
  }
}

void FileRunner::run_between(const Operation& op, const Models&) {
  for (uint64_t done = 0; done < op.length;) {
    loff_t in = static_cast<loff_t>(op.offset + done);
    loff_t out = static_cast<loff_t>(op.other_offset + done);
    ssize_t n = 0;
    if (op.kind == Kind::copy) {
      n = copy_file_range(file(op.file).fd(), &in, file(op.other).fd(), &out, op.length - done, 0);
    } else {
      if (lseek(file(op.other).fd(), out, SEEK_SET) < 0) failed("lseek");
      n = sendfile(file(op.other).fd(), file(op.file).fd(), &in, op.length - done);
    }
    if (n < 0) failed(op.kind == Kind::copy ? "copy_file_range" : "sendfile");
    if (n == 0) wrong("nothing copied, " + std::to_string(op.length - done) + " bytes left");
    done += static_cast<uint64_t>(n);
  }
}

uint64_t FileRunner::seek(uint64_t from, int whence, uint64_t size) {
  const off_t found = lseek(file(op_.file).fd(), static_cast<off_t>(from), whence);
  if (found >= 0) return static_cast<uint64_t>(found);
  if (errno != ENXIO) failed("lseek");
  if (whence == SEEK_HOLE) wrong("SEEK_HOLE gives ENXIO within the file");
  return size;
}

void FileRunner::check_seek(const FileModel& model) {
  const uint64_t size = model.size();
  if (lseek(file(op_.file).fd(), static_cast<off_t>(size), SEEK_DATA) >= 0 || errno != ENXIO) {
    wrong("SEEK_DATA at the end of the file");
  }
  for (uint64_t at = 0; at < size;) {
    const uint64_t data = seek(at, SEEK_DATA, size);
    if (data < at || data > size) wrong("SEEK_DATA goes to " + std::to_string(data));
    const uint64_t hole = data == size ? size : seek(data, SEEK_HOLE, size);
    if (data < size && (hole <= data || hole > size)) {
      wrong("SEEK_HOLE goes to " + std::to_string(hole));
    }
    for (uint64_t b = at / kBlock; b * kBlock < hole; ++b) {
      const bool said_data = b * kBlock >= data;
      const FileModel::Block is = model.block(b);
      if (is == FileModel::Block::unknown) continue;
      if (is == FileModel::Block::hole && !settings_.exact_holes) continue;
      if (said_data != (is == FileModel::Block::data)) {
        wrong("block " + std::to_string(b) + " is said to be " + (said_data ? "data" : "a hole"));
      }
    }
    at = hole;
  }
}

void FileRunner::compare(int number, const FileModel& model) {
  struct stat st {};
  const int fd = file(number).fd();
  if (fstat(fd, &st) != 0) failed("fstat");
  if (static_cast<uint64_t>(st.st_size) != model.size()) {
    wrong("st_size is " + std::to_string(st.st_size) + ", not " + std::to_string(model.size()));
  }
  std::string got(model.size() + 1, '\0');
  expect_count(pread(fd, got.data(), got.size(), 0), model.size(), "pread");
  expect_bytes(got.data(), model.size(), model, 0);
}

void FileRunner::run_rest(const Operation& op, const Models& before) {
  TestFile& on = file(op.file);
  switch (op.kind) {
    case Kind::reopen:
      return on.close_all(op.flag);
    case Kind::sync:
      if ((op.flag ? fdatasync(on.fd()) : fsync(on.fd())) != 0) failed("fsync");
      return;
    case Kind::sync_all:
      for (const auto& each : files_) {
        if (fsync(each->fd()) != 0) failed("fsync");
      }
      return;
    case Kind::drop:
      if (posix_fadvise(on.fd(), 0, 0, POSIX_FADV_DONTNEED) != 0) failed("posix_fadvise");
      if (settings_.drop_caches && op.flag) {
        const int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
        if (fd < 0 || ::write(fd, "3", 1) != 1) failed("drop_caches");
        close(fd);
      }
      return;
    case Kind::seek:
      return check_seek(before[static_cast<size_t>(op.file)]);
    default:
      return compare(op.file, before[static_cast<size_t>(op.file)]);
  }
}

void FileRunner::run(const Operation& op, const Models& before) {
  op_ = op;
  if (settings_.verbose) fprintf(stderr, "%s\n", op.describe().c_str());
  history_.push_back(op);
  if (history_.size() > kHistory) history_.pop_front();
  const FileModel& model = before[static_cast<size_t>(op.file)];
  switch (op.kind) {
    case Kind::read:
    case Kind::direct_read:
    case Kind::pipe_read:
      return run_read(op, model);
    case Kind::write:
    case Kind::append:
    case Kind::write_vector:
    case Kind::direct_write:
    case Kind::sync_write:
    case Kind::pipe_write:
      return run_write(op, model);
    case Kind::direct_odd: {
      if (op.flag) return run_write(op, model);
      Operation odd = op;
      odd.kind = Kind::read;
      return run_read(odd, model);
    }
    case Kind::map_read:
    case Kind::map_write:
    case Kind::private_map:
    case Kind::beyond_end:
      return run_mapped(op, model);
    case Kind::truncate:
    case Kind::punch:
    case Kind::zero:
    case Kind::allocate:
    case Kind::collapse:
      return run_change(op, model);
    case Kind::copy:
    case Kind::send_file:
      return run_between(op, before);
    default:
      return run_rest(op, before);
  }
}

}  // namespace e2e
