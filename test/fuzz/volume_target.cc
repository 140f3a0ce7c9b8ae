// SPDX-License-Identifier: MIT
// Whole volumes: check, dump, mount, operations, commit, a second mount, the replace.
//
// A volume lives on a simulated machine (test/sim/scheduler.h): one thread, a virtual clock, and a
// seed that decides which task runs next. So an input does the same each time, and no pause costs
// time.
#include <fmt/format.h>
#include <sys/stat.h>

#include <set>

#include "alloc/base/checksum.h"
#include "alloc/base/json.h"
#include "fs/check/check.h"
#include "fs/check/dump.h"
#include "fs/inode/acl.h"
#include "fs/mount/control.h"
#include "fs/mount/mount.h"
#include "test/fuzz/acl_value.h"
#include "test/fuzz/base_images.h"
#include "test/fuzz/targets.h"
#include "test/sim/scheduler.h"

namespace moltfs::fuzz {
namespace {

using namespace moltfs::fs;
using test::MemoryDevices;

constexpr const char* kTarget = "mem:target";    // free, for a replace
constexpr const char* kForeign = "mem:foreign";  // blank, and nobody's to write
constexpr uint64_t kLongestLife = 5'000'000;     // steps of the simulation

class Volume {
 public:
  /// `path`: of a member. `coverage_is_true`: the target of a replace that goes on has what the
  /// record says. Nothing can check that; where it is not so, the replace ends with data lost.
  Volume(sim::SimRuntime& runtime, const std::vector<std::shared_ptr<test::MemoryDisk>>& disks,
         std::string path, bool coverage_is_true, Choices& choices)
      : choices_(choices),
        coverage_is_true_(coverage_is_true),
        runtime_(runtime),
        path_(std::move(path)) {
    for (size_t i = 0; i < disks.size(); ++i) devices_.insert(kMemberPaths[i], disks[i]);
    const uint64_t size = disks.front()->size_bytes();
    devices_.add(kTarget, size + (choices.one_in(2) ? 0 : 1 << 20));
    devices_.add(kForeign, size);
    devices_.set_hook([this, is_slow = choices.one_in(4)](const alloc::IoRequest& request) {
      return before(request, is_slow);
    });
  }

  void run() {
    clean_ = check_it("before");
    dump();
    if (choices_.one_in(8)) {
      mount_read_only();
    } else if (mount(true)) {
      // What was written is what check and the next mount see.
      if (clean_ && !check_it("after")) fail("a clean volume is damaged after it was written");
      (void)mount(false);
    }
    if (devices_.disk(kForeign).stored_bytes() != 0) fail("a device of nobody was written");
    if (!may_use_target_ && devices_.disk(kTarget).stored_bytes() != 0) {
      fail("a device that was not named was written");
    }
  }

 private:
  /// Boot code and partition tables of others are never written. A slow device lets other tasks run.
  Result<void> before(const alloc::IoRequest& request, bool is_slow) {
    const bool writes = request.op == alloc::IoOp::write || request.op == alloc::IoOp::discard;
    const bool is_erased = may_use_target_ && request.device->path() == kTarget;
    if (writes && !is_erased && request.offset < alloc::kSuperblockOffsets[0]) {
      fail(fmt::format("{} is written at {}", request.device->path(), request.offset));
    }
    if (is_slow) runtime_.sleep(std::chrono::microseconds(20));
    return ok();
  }

  /// True if there is no finding.
  bool check_it(const char* when) {
    CheckOptions options;
    options.data = true;
    auto report = check(runtime_, devices_, {path_}, options);
    if (!report) return false;
    if (clean_ && !report.value().clean()) {
      for (const Finding& f : report.value().findings) {
        fmt::print(stderr, "fuzz: check {}: {}: {}\n", when, f.where, f.what);
      }
    }
    return report.value().clean();
  }

  void dump() {
    DumpRequest request;
    request.paths = {path_};
    request.print = [](std::string_view) {};
    (void)dump_superblocks(runtime_, devices_, request);
    (void)dump_chunks(runtime_, devices_, request, choices_.one_in(2));
    (void)dump_tree(runtime_, devices_, request, TreeId::fs, std::nullopt);
    (void)dump_tree(runtime_, devices_, request, TreeId::extent, std::nullopt);
    (void)dump_inode(runtime_, devices_, request, choices_.one_in(2) ? "/d/extents" : "1");
    (void)dump_replace(runtime_, devices_, request);
    (void)dump_log(runtime_, devices_, request);
  }

  Mount::Options options() {
    Mount::Options how;
    how.cache_bytes = 4 << 20;
    how.commit_interval = Nanoseconds::zero();
    how.replace.windows_in_flight = 1;
    how.abandon_swap = choices_.one_in(2);
    return how;
  }

  void mount_read_only() {
    Mount::Options how = options();
    how.read_only = true;
    auto mount = Mount::open(runtime_, devices_, {path_}, how);
    if (!mount) return;
    mount_ = std::move(mount).value();
    visit(kRootInode, 0);
    judge(mount_->close(), "unmount");
    mount_.reset();
  }

  bool mount(bool first) {
    auto opened = Mount::open(runtime_, devices_, {path_}, options());
    if (!opened) {
      if (clean_) fail("check finds nothing, but the mount fails: " + opened.error().message());
      return false;
    }
    mount_ = std::move(opened).value();
    if (first) ++accepted_inputs;
    const auto state = mount_->replace().status().state;
    const bool goes_on = in_progress(state) || state == replace::State::suspended;
    if (goes_on && !coverage_is_true_) clean_ = false;
    content_is_known_ = !first;
    visit(kRootInode, 0);
    if (first) {
      operate();
      if (choices_.one_in(4)) replace();
      if (choices_.one_in(6)) remove_all(kRootInode, 0);
    }
    judge(mount_->filesystem().statistics(), "statfs");
    for (const std::string& text : {usage_json(*mount_), devices_json(*mount_),
                                    replace::to_json(mount_->replace().status()) + "\n"}) {
      if (!Json::parse(text)) fail("not JSON: " + text);
    }
    judge(mount_->filesystem().commit(), "commit");
    if (clean_ && mount_->transactions().fatal()) fail("fatal: " + *mount_->transactions().fatal());
    judge(mount_->close(), "unmount");
    if (const auto device = mount_->volume().device(mount_->volume().devices().front().devid)) {
      path_ = device->path();
    }
    mount_.reset();
    return true;
  }

  /// Reads what there is, as far as that is soon done.
  void visit(InodeNumber directory, unsigned depth) {
    Filesystem& fs = mount_->filesystem();
    std::vector<DirEntry> entries;
    judge(fs.read_directory(directory, 0, true,
                            [&](const DirEntry& entry, const Attributes*) {
                              if (entry.name == "." || entry.name == "..") return true;
                              entries.push_back(entry);
                              return entries.size() < 60;
                            }),
          "readdir");
    for (const DirEntry& entry : entries) {
      auto found = fs.lookup(directory, entry.name);
      judge(found, "lookup");
      if (!found) continue;
      const Attributes& a = found.value();
      if (known_.size() < 200) known_.push_back({a, directory, entry.name});
      auto names = fs.list_xattrs(a.ino);
      judge(names, "listxattr");
      if (names) {
        for (const std::string& name : names.value()) judge(fs.get_xattr(a.ino, name), "getxattr");
      }
      if (S_ISLNK(a.mode)) judge(fs.read_symlink(a.ino), "readlink");
      if (S_ISREG(a.mode)) {
        AlignedBuffer buffer(64 * 1024);
        for (const uint64_t offset :
             {uint64_t{0}, a.size / 2, a.size - std::min(a.size, uint64_t{5})}) {
          judge(fs.read(a.ino, offset, buffer.span()), "read");
        }
        judge_content(a.ino, buffer);
        judge(fs.seek(a.ino, 0, SeekWhence::hole), "seek");
        (void)fs.path_of(a.ino);
      }
      if (S_ISDIR(a.mode) && depth < 6) visit(a.ino, depth + 1);
      fs.forget(a.ino, 1);
    }
  }

  /// On a clean volume the content of a file changes only if the file is written.
  void judge_content(InodeNumber ino, AlignedBuffer& buffer) {
    if (!clean_) return;
    const auto length = mount_->filesystem().read(ino, 0, buffer.span());
    if (!length || written_.count(ino.value) != 0) return;
    const uint64_t sum = checksum_of(buffer.span().first(length.value()));
    const auto [at, is_new] = content_.try_emplace(ino.value, sum);
    if (!is_new && content_is_known_ && at->second != sum) {
      fail(fmt::format("inode {} has other content, but was not written", ino.value));
    }
  }

  /// rm -rf, as far as that is soon done.
  void remove_all(InodeNumber directory, unsigned depth) {
    Filesystem& fs = mount_->filesystem();
    std::vector<DirEntry> entries;
    judge(fs.read_directory(directory, 0, false,
                            [&](const DirEntry& entry, const Attributes*) {
                              if (entry.name != "." && entry.name != "..") entries.push_back(entry);
                              return entries.size() < 200;
                            }),
          "readdir");
    for (const DirEntry& entry : entries) {
      const auto found = fs.lookup(directory, entry.name);
      judge(found, "lookup");
      if (!found) continue;
      if (S_ISDIR(found.value().mode)) {
        if (depth < 6) remove_all(found.value().ino, depth + 1);
        judge(fs.remove_directory(directory, entry.name), "rmdir");
      } else {
        judge(fs.unlink(directory, entry.name), "unlink");
      }
      fs.forget(found.value().ino, 1);
    }
  }

  struct Known {
    Attributes attributes;
    InodeNumber directory;
    std::string name;
  };

  void operate() {
    Filesystem& fs = mount_->filesystem();
    const Caller caller{1000, 1000, 022};
    // Always: what uses the next inode number, and an item of each type under it.
    const auto directory = fs.make(kRootInode, "fuzz-directory", S_IFDIR | 0755, 0, caller);
    judge(directory, "mkdir");
    judge(fs.symlink(kRootInode, "fuzz-link", std::string(4000, 't'), caller), "symlink");
    const auto file = fs.make(kRootInode, "fuzz-file", S_IFREG | 0644, 0, caller);
    judge(file, "create");
    judge(fs.make_unnamed(kRootInode, S_IFREG | 0600, caller), "tmpfile");
    if (file) write_some(file.value().ino);
    for (uint64_t i = 4 + choices_.below(12); i > 0 && !known_.empty(); --i) one_operation(caller);
    if (file && directory) {
      judge(fs.rename(kRootInode, "fuzz-file", directory.value().ino, "moved", RenameMode::replace,
                      caller),
            "rename");
    }
    judge(fs.sync(), "sync");
  }

  void write_some(InodeNumber ino) {
    Filesystem& fs = mount_->filesystem();
    written_.insert(ino.value);
    AlignedBuffer buffer(choices_.one_in(2) ? 4096 : 200'000);
    std::fill(buffer.data(), buffer.data() + buffer.size(), std::byte{'w'});
    const uint64_t offset = choices_.below(4) * 5000;
    judge(fs.write(ino, offset, buffer.span(), {}), "write");
  }

  void one_operation(const Caller& caller) {
    Filesystem& fs = mount_->filesystem();
    const Known known = choices_.of(known_);
    const InodeNumber ino = known.attributes.ino;
    const std::string other = fmt::format("n{}", choices_.below(20));
    switch (choices_.below(14)) {
      case 0:
      case 1:
        if (S_ISREG(known.attributes.mode)) write_some(ino);
        break;
      case 2: {
        written_.insert(ino.value);
        SetAttributes set;
        set.size = choices_.one_in(2) ? known.attributes.size / 2 : choices_.below(100'000);
        judge(fs.set_attributes(ino, set), "truncate");
        break;
      }
      case 3: {
        SetAttributes set;
        set.mode = 0750;
        set.uid = 7;
        judge(fs.set_attributes(ino, set), "chmod");
        break;
      }
      case 4:
        judge(fs.unlink(known.directory, known.name), "unlink");
        break;
      case 5:
        judge(fs.remove_directory(known.directory, known.name), "rmdir");
        break;
      case 6: {
        const Known to = choices_.of(known_);
        const auto mode = choices_.one_in(4)   ? RenameMode::exchange
                          : choices_.one_in(4) ? RenameMode::whiteout
                                               : RenameMode::replace;
        judge(fs.rename(known.directory, known.name, to.directory,
                        choices_.one_in(2) ? to.name : other, mode, caller),
              "rename");
        break;
      }
      case 7:
        judge(fs.link(ino, choices_.of(known_).directory, other), "link");
        break;
      case 8:
        judge(
            fs.set_xattr(ino, "user.fuzz", ByteVector(choices_.below(9000)), XattrMode::any, false),
            "setxattr");
        break;
      case 9: {
        const auto names = fs.list_xattrs(ino);
        judge(names, "listxattr");
        if (names && !names.value().empty()) {
          judge(fs.remove_xattr(ino, choices_.of(names.value())), "removexattr");
        }
        break;
      }
      case 10: {
        static constexpr AllocateMode kModes[] = {AllocateMode::allocate, AllocateMode::punch_hole,
                                                  AllocateMode::zero_range};
        written_.insert(ino.value);
        judge(fs.allocate(ino, kModes[choices_.below(3)], choices_.below(5) * 3000,
                          1 + choices_.below(50'000), choices_.one_in(2)),
              "fallocate");
        break;
      }
      case 11:
        judge(fs.set_xattr(ino, kAccessAclName, acl_value(), XattrMode::any, true), "set ACL");
        break;
      case 12: {
        const InodeNumber to = choices_.of(known_).attributes.ino;
        written_.insert(to.value);
        judge(fs.copy_range(ino, 0, to, choices_.below(3) * 4096, 1 + choices_.below(30'000)),
              "copy_file_range");
        break;
      }
      default:
        judge(fs.make(S_ISDIR(known.attributes.mode) ? ino : known.directory, other, S_IFREG | 0600,
                      0, caller),
              "create");
    }
  }

  /// Lets the recorded replace go on for a moment, or starts one.
  void replace() {
    replace::Engine& engine = mount_->replace();
    const auto state = engine.status().state;
    if (state == replace::State::suspended) {
      (void)engine.resume();
    } else if (!in_progress(state)) {
      replace::Engine::StartRequest request;
      request.source = "1";
      request.target = kTarget;
      may_use_target_ = true;
      (void)engine.start(request);
    }
    const Nanoseconds end = runtime_.now() + std::chrono::milliseconds(
                                                 choices_.one_in(2) ? choices_.below(50) : 60'000);
    (void)engine.wait([&] { return runtime_.now() > end; });
    (void)replace::to_json(engine.status());
    if (choices_.one_in(3)) (void)engine.cancel();
  }

  /// Damage may be reported only for a volume in which check has found some.
  template <class T>
  void judge(const Result<T>& result, const char* operation) {
    if (result || !clean_) return;
    switch (result.error().code) {
      case Errc::io_error:
      case Errc::checksum_mismatch:
      case Errc::bad_superblock:
      case Errc::bad_chunk_table:
      case Errc::bad_node:
      case Errc::bad_item:
      case Errc::node_missing:
      case Errc::missing_device:
        fail(fmt::format("check finds nothing, but {} fails: {}", operation,
                         result.error().message()));
      default:
        return;
    }
  }

  Choices& choices_;
  const bool coverage_is_true_;
  sim::SimRuntime& runtime_;
  MemoryDevices devices_;
  std::unique_ptr<Mount> mount_;
  bool clean_ = false;
  bool may_use_target_ = false;
  std::string path_;  // of a member; another one after a replace
  std::vector<Known> known_;
  bool content_is_known_ = false;         // by the first mount
  std::map<uint64_t, uint64_t> content_;  // checksums, by inode
  std::set<uint64_t> written_;            // inodes
};

}  // namespace

void fuzz_volume(Choices& choices) {
  const auto& images = base_images();
  const bool is_golden = choices.one_in(256);  // a hundred times as slow
  const BaseImage& base =
      is_golden ? choices.of(images) : images[choices.below(small_image_count())];
  RawImage image = base.raw;
  image.mutate(choices);
  const auto replaces = [](const RawImage& raw) {
    std::vector<ByteVector> all;
    for (const RawSuperblock& super : raw.superblocks()) all.push_back(super.replace);
    return all;
  };
  const bool coverage_is_true = replaces(image) == replaces(base.raw) && !image.changes_nodes();
  const auto disks = image.write();
  const size_t named = choices.one_in(8) ? choices.below(disks.size()) : base.raw.leading_disk();
  sim::Scheduler scheduler(choices.any());
  scheduler.set_step_limit(kLongestLife);
  sim::SimRuntime runtime(scheduler);
  try {
    scheduler.run(
        [&] { Volume(runtime, disks, kMemberPaths[named], coverage_is_true, choices).run(); });
  } catch (const std::exception& error) {
    fail(error.what());
  }
}

}  // namespace moltfs::fuzz
