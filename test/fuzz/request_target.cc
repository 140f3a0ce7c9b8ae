// SPDX-License-Identifier: MIT
// Requests as the kernel sends them, to a session that is not mounted. Names end with a zero byte
// and lengths fit the request, as the kernel guarantees; everything else is anything. Requests that
// are decoded here and not by libfuse may also be too short.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>

#include "fs/fuse/fuse_context.h"
#include "fs/fuse/raw.h"
#include "fs/fuse/receive.h"
#include "fs/fuse/session.h"
#include "fs/mount/control_call.h"
#include "test/fuzz/mounted.h"
#include "test/fuzz/targets.h"

namespace moltfs::fuzz {
namespace {

using namespace moltfs::fs::fuse;

class Kernel {
 public:
  Kernel()
      : fd_(::memfd_create("replies", MFD_CLOEXEC)),
        others_fd_(::open("/dev/null", O_WRONLY | O_CLOEXEC)),
        context_(mounted_.mount(), {.owner = 1000, .owner_may_command = true}),
        buffer_(kMaxWriteBytes) {
    auto session = make_session(context_, "fsname=fuzz");
    if (!session) fail("no session: " + session.error().message());
    session_ = std::move(session).value();
    if (!redirect(session_.get(), others_fd_)) fail("libfuse does not take the descriptor");
    // Replies of other threads do not overwrite each other: a memfd has no lock for its position.
    if (::fcntl(fd_, F_SETFL, O_APPEND) != 0) fail("memfd");
    context_.deferred.start();
    fuse_init_in in{};
    in.major = 7;
    in.minor = 38;
    in.max_readahead = 1 << 17;
    in.flags = ~0u;
    begin(FUSE_INIT, 0);
    put(in);
    send();
  }
  ~Kernel() {
    while (!opens_.empty()) close_one(opens_.size() - 1, 0);
    context_.deferred.stop();
    session_.reset();
    ::close(fd_);
    ::close(others_fd_);
  }

  void request(Choices& choices);

 private:
  /// An open file: the kernel never sends another handle.
  struct Open {
    uint64_t node, handle;
    bool directory;
  };

  void begin(uint32_t opcode, uint64_t node) {
    length_ = sizeof(fuse_in_header);
    header_ = {};
    header_.uid = user_;
    header_.opcode = opcode;
    header_.nodeid = node;
    header_.unique = 2 * ++sent_;
  }
  template <class T>
  void put(const T& argument) {
    std::memcpy(buffer_.data() + length_, &argument, sizeof argument);
    length_ += sizeof argument;
  }
  void put_bytes(std::string_view bytes) {
    std::memcpy(buffer_.data() + length_, bytes.data(), bytes.size());
    length_ += bytes.size();
  }
  void put_name(const std::string& name) { put_bytes({name.c_str(), name.size() + 1}); }

  /// The error of the reply; 0 if there was none.
  int send() {
    header_.len = static_cast<uint32_t>(length_);
    std::memcpy(buffer_.data(), &header_, sizeof header_);
    if (::ftruncate(fd_, 0) != 0 || ::lseek(fd_, 0, SEEK_SET) != 0) fail("memfd");
    const ReplyDescriptor reply_to(fd_);
    (void)handle_request(context_, session_.get(), {buffer_.data(), length_});
    // Late replies of the thread for deferred ones may come before it.
    fuse_out_header out{};
    for (reply_at_ = 0;; reply_at_ += out.len) {
      const bool is_read = ::pread(fd_, &out, sizeof out, reply_at_) == sizeof out;
      if (!is_read || out.len < sizeof out) return 0;
      if (out.unique == header_.unique) break;
    }
    if (out.error == 0) ++accepted_inputs;
    return -out.error;
  }
  template <class T>
  std::optional<T> reply_at(size_t offset) {
    T value;
    const auto at = reply_at_ + static_cast<off_t>(sizeof(fuse_out_header) + offset);
    fuse_out_header out{};
    // Replies of other requests, by other threads, may follow.
    if (::pread(fd_, &out, sizeof out, reply_at_) != sizeof out || out.unique != header_.unique ||
        out.error != 0 || out.len < sizeof out + offset + sizeof value ||
        ::pread(fd_, &value, sizeof value, at) != sizeof value) {
      return std::nullopt;  // there is none (yet)
    }
    return value;
  }

  uint64_t any_node(Choices& choices) {
    if (choices.one_in(40)) return choices.number(64, 1);
    if (choices.one_in(10)) return 1 + choices.below(12);
    return nodes_[choices.below(nodes_.size())];
  }
  std::string any_name(Choices& choices) {
    static constexpr const char* kNames[] = {
        "a",     "b",     "fuzz",   ".moltfs", "replace", ".", "..", "", "x/y", "\xff\xfe\x01",
        "label", "links", "sparse", "x1",      "x2",      "x3"};
    if (choices.one_in(50)) return std::string(choices.below(4000), 'n');
    return kNames[choices.below(std::size(kNames))];
  }
  std::string any_attribute(Choices& choices) {
    static constexpr const char* kNames[] = {"user.a",
                                             "trusted.b",
                                             "security.capability",
                                             "user.",
                                             "system.posix_acl_access",
                                             "system.posix_acl_default",
                                             "user.moltfs.replace",
                                             "user.moltfs.usage",
                                             "bad",
                                             ""};
    return kNames[choices.below(std::size(kNames))];
  }
  void learn_entry() {
    const auto entry = reply_at<fuse_entry_out>(0);
    const uint64_t node = entry ? entry->nodeid : 0;
    if (node == 0) return;
    if (nodes_.size() < 500) nodes_.push_back(node);
    ++lookups_;
  }
  void close_one(size_t at, uint32_t flags);
  void open_or_close(Choices& choices);
  void names(Choices& choices);
  void content(Choices& choices);
  void attributes(Choices& choices);
  void others(Choices& choices);
  void other_ioctl(Choices& choices);
  void control_call(Choices& choices);

  Mounted mounted_;
  const int fd_;         // replies to the requests
  const int others_fd_;  // what the product tells the kernel on its own
  FuseContext context_;
  Session session_;
  ReceiveBuffer buffer_;
  fuse_in_header header_{};
  uint32_t user_ = 0;
  size_t length_ = 0;
  uint64_t sent_ = 0, lookups_ = 0;
  off_t reply_at_ = 0;  // of the last request, in fd_
  std::vector<uint64_t> nodes_{1};
  std::vector<Open> opens_;
};

void Kernel::close_one(size_t at, uint32_t flags) {
  const Open open = opens_[at];
  opens_.erase(opens_.begin() + static_cast<ptrdiff_t>(at));
  begin(open.directory ? FUSE_RELEASEDIR : FUSE_RELEASE, open.node);
  fuse_release_in in{};
  in.fh = open.handle;
  in.flags = flags;
  put(in);
  send();
}

void Kernel::open_or_close(Choices& choices) {
  if (!opens_.empty() && (opens_.size() > 50 || choices.one_in(3))) {
    const size_t at = choices.below(opens_.size());
    return close_one(at, static_cast<uint32_t>(choices.number(16, 0)));
  }
  const bool directory = choices.one_in(2);
  const uint64_t node = any_node(choices);
  begin(directory ? FUSE_OPENDIR : FUSE_OPEN, node);
  fuse_open_in in{};
  in.flags = static_cast<uint32_t>(choices.number(18, 2));
  put(in);
  if (send() != 0) return;
  const auto out = reply_at<fuse_open_out>(0);
  if (out) opens_.push_back({node, out->fh, directory});
}

void Kernel::names(Choices& choices) {
  const uint64_t node = any_node(choices);
  const std::string name = any_name(choices);
  switch (choices.below(9)) {
    case 0:
      begin(FUSE_LOOKUP, node);
      put_name(name);
      if (send() == 0) learn_entry();
      break;
    case 1: {
      begin(FUSE_MKNOD, node);
      fuse_mknod_in in{};
      in.mode = static_cast<uint32_t>(choices.number(32, S_IFREG | 0644));
      in.rdev = static_cast<uint32_t>(choices.any());
      in.umask = 022;
      put(in);
      put_name(name);
      if (send() == 0) learn_entry();
      break;
    }
    case 2: {
      begin(FUSE_MKDIR, node);
      put(fuse_mkdir_in{static_cast<uint32_t>(choices.number(16, 0755)), 022});
      put_name(name);
      if (send() == 0) learn_entry();
      break;
    }
    case 3:
      begin(choices.one_in(2) ? FUSE_UNLINK : FUSE_RMDIR, node);
      put_name(name);
      send();
      break;
    case 4:
      begin(FUSE_SYMLINK, node);
      put_name(name);
      put_name(std::string(choices.below(4500), 't'));
      if (send() == 0) learn_entry();
      break;
    case 5:
      begin(FUSE_LINK, node);
      put(fuse_link_in{any_node(choices)});
      put_name(name);
      if (send() == 0) learn_entry();
      break;
    case 6: {
      begin(FUSE_RENAME2, node);
      fuse_rename2_in in{};
      in.newdir = any_node(choices);
      in.flags = static_cast<uint32_t>(choices.below(9));
      put(in);
      put_name(name);
      put_name(any_name(choices));
      send();
      break;
    }
    case 7: {
      begin(choices.one_in(2) ? uint32_t{FUSE_CREATE} : kOpTmpfile, node);
      fuse_create_in in{};
      in.flags = static_cast<uint32_t>(choices.number(18, 2));
      in.mode = static_cast<uint32_t>(choices.number(16, 0644)) | S_IFREG;
      in.umask = 077;
      put(in);
      put_name(name);
      if (send() != 0) break;
      learn_entry();
      const auto entry = reply_at<fuse_entry_out>(0);
      const auto open = reply_at<fuse_open_out>(sizeof(fuse_entry_out));
      if (entry && open) opens_.push_back({entry->nodeid, open->fh, false});
      break;
    }
    default: {
      begin(FUSE_FORGET, node);
      put(fuse_forget_in{choices.number(64, 1)});
      send();
      break;
    }
  }
}

void Kernel::content(Choices& choices) {
  if (opens_.empty()) return open_or_close(choices);
  const Open& open = opens_[choices.below(opens_.size())];
  const uint64_t offset = choices.one_in(8) ? choices.number(63, 0) : choices.below(100'000);
  if (open.directory) {
    begin(choices.one_in(2) ? FUSE_READDIR : FUSE_READDIRPLUS, open.node);
    fuse_read_in in{};
    in.fh = open.handle;
    in.offset = offset;
    in.size = static_cast<uint32_t>(choices.one_in(4) ? choices.below(200) : 4096);
    put(in);
    send();
    return;
  }
  switch (choices.below(6)) {
    case 0: {
      begin(FUSE_READ, open.node);
      fuse_read_in in{};
      in.fh = open.handle;
      in.offset = offset;
      in.size = static_cast<uint32_t>(choices.below(1 << 17));
      in.read_flags = static_cast<uint32_t>(choices.below(4));
      put(in);
      send();
      break;
    }
    case 1:
    case 2: {
      begin(FUSE_WRITE, open.node);
      fuse_write_in in{};
      in.fh = open.handle;
      in.offset = offset;
      in.size = static_cast<uint32_t>(choices.below(choices.one_in(10) ? kMaxWriteBytes : 9000));
      in.write_flags = static_cast<uint32_t>(choices.below(8));
      put(in);
      length_ += in.size;
      send();
      break;
    }
    case 3: {
      begin(FUSE_FALLOCATE, open.node);
      fuse_fallocate_in in{};
      in.fh = open.handle;
      in.offset = offset;
      in.length = choices.one_in(8) ? choices.number(63, 0) : choices.below(200'000);
      in.mode = static_cast<uint32_t>(choices.number(8, 0));
      put(in);
      send();
      break;
    }
    case 4: {
      begin(FUSE_LSEEK, open.node);
      put(fuse_lseek_in{open.handle, offset, static_cast<uint32_t>(choices.below(6)), 0});
      send();
      break;
    }
    default: {
      const Open& to = opens_[choices.below(opens_.size())];
      begin(FUSE_COPY_FILE_RANGE, open.node);
      fuse_copy_file_range_in in{};
      in.fh_in = open.handle;
      in.off_in = offset;
      in.nodeid_out = to.node;
      in.fh_out = to.handle;
      in.off_out = choices.below(100'000);
      in.len = choices.one_in(8) ? choices.number(63, 0) : choices.below(200'000);
      in.flags = choices.below(2);
      put(in);
      send();
    }
  }
}

void Kernel::attributes(Choices& choices) {
  const uint64_t node = any_node(choices);
  switch (choices.below(7)) {
    case 0:
      begin(FUSE_GETATTR, node);
      put(fuse_getattr_in{});
      send();
      break;
    case 1: {
      begin(FUSE_SETATTR, node);
      fuse_setattr_in in{};
      in.valid = static_cast<uint32_t>(choices.number(14, 1));
      in.valid &= ~static_cast<uint32_t>(FATTR_FH);
      in.size = choices.one_in(4) ? choices.number(64, 0) : choices.below(100'000);
      in.mode = static_cast<uint32_t>(choices.number(16, 0644));
      in.uid = static_cast<uint32_t>(choices.number(32, 0));
      in.gid = static_cast<uint32_t>(choices.number(32, 0));
      in.atime = choices.number(64, 0);
      in.mtime = choices.number(64, 0);
      in.ctime = choices.number(64, 0);
      in.atimensec = static_cast<uint32_t>(choices.number(32, 0));
      in.mtimensec = static_cast<uint32_t>(choices.number(32, 0));
      in.ctimensec = static_cast<uint32_t>(choices.number(32, 0));
      put(in);
      send();
      break;
    }
    case 2: {
      begin(FUSE_SETXATTR, node);
      const std::string value(choices.below(choices.one_in(10) ? 70'000 : 300), 'v');
      put(SetxattrIn{static_cast<uint32_t>(value.size()), static_cast<uint32_t>(choices.below(4)),
                     static_cast<uint32_t>(choices.below(4)), 0});
      put_name(any_attribute(choices));
      put_bytes(value);
      send();
      break;
    }
    case 3:
      begin(FUSE_GETXATTR, node);
      put(fuse_getxattr_in{static_cast<uint32_t>(choices.below(3) * 100), 0});
      put_name(any_attribute(choices));
      send();
      break;
    case 4:
      begin(FUSE_LISTXATTR, node);
      put(fuse_getxattr_in{static_cast<uint32_t>(choices.below(3) * 100), 0});
      send();
      break;
    case 5:
      begin(FUSE_REMOVEXATTR, node);
      put_name(any_attribute(choices));
      send();
      break;
    default:
      begin(kOpStatx, node);
      put(StatxIn{});
      if (choices.one_in(8)) length_ = sizeof(fuse_in_header) + choices.below(sizeof(StatxIn));
      send();
  }
}

void Kernel::others(Choices& choices) {
  const uint64_t node = any_node(choices);
  switch (choices.below(7)) {
    case 0:
      begin(FUSE_STATFS, node);
      send();
      break;
    case 1:
      begin(FUSE_READLINK, node);
      send();
      break;
    case 2:
      begin(choices.one_in(2) ? FUSE_FSYNC : FUSE_FSYNCDIR, node);
      put(fuse_fsync_in{});
      if (choices.one_in(20)) send();
      break;
    case 3:
      begin(kOpSyncfs, node);
      put(uint64_t{0});
      if (choices.one_in(20)) send();
      break;
    case 4: {
      begin(kOpTmpfile, node);
      fuse_create_in in{};
      put(in);
      length_ = sizeof(fuse_in_header) + choices.below(sizeof in);  // too short
      send();
      break;
    }
    case 5:
      control_call(choices);
      break;
    default:
      other_ioctl(choices);
  }
}

void Kernel::other_ioctl(Choices& choices) {
  begin(FUSE_IOCTL, any_node(choices));
  fuse_ioctl_in in{};
  static constexpr uint32_t kCommands[] = {FS_IOC_GETFLAGS,
                                           FS_IOC_SETFLAGS,
                                           FS_IOC_FSGETXATTR,
                                           FS_IOC_FSSETXATTR,
                                           FS_IOC_GETVERSION,
                                           FITRIM,
                                           FS_IOC_GETFSLABEL,
                                           FS_IOC_SETFSLABEL,
                                           fs::kControlCall,
                                           0x5401,
                                           0};
  in.cmd = choices.one_in(4) ? static_cast<uint32_t>(choices.any()) : choices.of(kCommands);
  in.in_size = static_cast<uint32_t>(choices.below(choices.one_in(4) ? 400 : 33));
  in.out_size = static_cast<uint32_t>(choices.below(33));
  in.flags = static_cast<uint32_t>(choices.below(32)) & ~uint32_t{FUSE_IOCTL_UNRESTRICTED};
  put(in);
  std::string argument;
  while (argument.size() < in.in_size) argument += static_cast<char>(choices.number(8, 0));
  put_bytes(argument);
  send();
}

/// A command of the program moltfs. The kernel copies as many bytes as the command's number says.
void Kernel::control_call(Choices& choices) {
  begin(FUSE_IOCTL, choices.one_in(8) ? any_node(choices) : 1);
  static constexpr const char* kTexts[] = {"start 1 mem:target",
                                           "start --force 1 \"mem:target\"",
                                           "cancel",
                                           "resume",
                                           "noatime,sync",
                                           "a label",
                                           "\xff\x1b[2J",
                                           "\"",
                                           ""};
  fs::ControlCall call{};
  call.is_set = static_cast<uint32_t>(choices.one_in(8) ? choices.number(32, 1) : choices.below(2));
  call.socket = choices.one_in(4) ? static_cast<int32_t>(choices.number(32, 0)) : -1;
  const auto& endpoint = choices.of(fs::Control::endpoints());
  std::memcpy(call.endpoint, endpoint.name.data(), endpoint.name.size());
  if (choices.one_in(16)) std::fill(std::begin(call.endpoint), std::end(call.endpoint), 'x');
  const std::string_view text = choices.of(kTexts);
  std::memcpy(call.text, text.data(), text.size());
  call.text_bytes =
      static_cast<uint32_t>(choices.one_in(8) ? choices.number(32, sizeof call.text) : text.size());
  fuse_ioctl_in in{};
  in.cmd = fs::kControlCall;
  in.in_size = in.out_size = sizeof call;
  put(in);
  put(call);
  send();
}

void Kernel::request(Choices& choices) {
  static constexpr uint32_t kUsers[] = {0, 1000, 1001};
  user_ = kUsers[choices.below(3)];
  switch (choices.below(6)) {
    case 0:
      return open_or_close(choices);
    case 1:
    case 2:
      return names(choices);
    case 3:
      return content(choices);
    case 4:
      return attributes(choices);
    default:
      return others(choices);
  }
}

}  // namespace

void fuzz_request(Choices& choices) {
  static std::unique_ptr<Kernel> kernel;
  static unsigned used = 0;
  if (!kernel || ++used % 20'000 == 0) {
    kernel.reset();
    kernel = std::make_unique<Kernel>();
  }
  kernel->request(choices);
}

}  // namespace moltfs::fuzz
