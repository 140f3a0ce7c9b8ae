// SPDX-License-Identifier: MIT
// The operations and the filesystems they work on.
#include "test/crash/operations.h"

#include <cstring>

namespace moltfs::crash {

namespace {

using fs::Filesystem;
using fs::kRootInode;

/// Bytes that differ from block to block and from `stamp` to `stamp`.
AlignedBuffer bytes(uint64_t length, uint64_t stamp) {
  AlignedBuffer buffer(round_up(length, kBlockSize));
  for (uint64_t i = 0; i < length; ++i) {
    buffer.data()[i] =
        static_cast<std::byte>((stamp * 0x9e3779b9 + i * 0xff51afd7 + i / 4096) >> 13);
  }
  return buffer;
}

using OfInode = std::function<Result<void>(InodeNumber)>;
using OfName = std::function<Result<void>(InodeNumber parent, std::string_view name)>;

/// Calls `act` with the inode of `name` in `parent`, and holds a reference meanwhile.
Result<void> with_entry(Filesystem& filesystem, InodeNumber parent, std::string_view name,
                        const OfInode& act) {
  TRY(auto attributes, filesystem.lookup(parent, name));
  auto done = act(attributes.ino);
  filesystem.forget(attributes.ino, 1);
  return done;
}

/// Calls `act` with the directory of `path` ("name" or "directory/name") and the name in it.
Result<void> at(Filesystem& filesystem, std::string_view path, const OfName& act) {
  const size_t slash = path.find('/');
  if (slash == path.npos) return act(kRootInode, path);
  return with_entry(filesystem, kRootInode, path.substr(0, slash),
                    [&](InodeNumber parent) { return act(parent, path.substr(slash + 1)); });
}

/// Calls `act` with the inode of `path`.
Result<void> with(Filesystem& filesystem, const char* path, const OfInode& act) {
  return at(filesystem, path, [&](InodeNumber parent, std::string_view name) {
    return with_entry(filesystem, parent, name, act);
  });
}

Result<void> write(Filesystem& filesystem, const char* name, uint64_t offset, uint64_t length,
                   uint64_t stamp, bool append = false) {
  return with(filesystem, name, [&](InodeNumber ino) -> Result<void> {
    const AlignedBuffer from = bytes(length, stamp);
    fs::Filesystem::WriteFlags flags;
    flags.append = append;
    TRY(filesystem.write(ino, offset, from.span().subspan(0, length), flags));
    return ok();
  });
}

Result<void> make(Filesystem& filesystem, const char* path, uint32_t mode = 0100644) {
  return at(filesystem, path, [&](InodeNumber parent, std::string_view name) -> Result<void> {
    TRY(auto made, filesystem.make(parent, name, mode, 0, {}));
    filesystem.forget(made.ino, 1);
    return ok();
  });
}

Result<void> symlink(Filesystem& filesystem, const char* name) {
  TRY(auto made, filesystem.symlink(kRootInode, name, "where/it/points", {}));
  filesystem.forget(made.ino, 1);
  return ok();
}

Result<void> resize(Filesystem& filesystem, const char* name, uint64_t size) {
  return with(filesystem, name, [&](InodeNumber ino) -> Result<void> {
    fs::SetAttributes set;
    set.size = size;
    TRY(filesystem.set_attributes(ino, set));
    return ok();
  });
}

Result<void> set_xattr(Filesystem& filesystem, const char* name, const char* key, uint64_t length) {
  return with(filesystem, name, [&](InodeNumber ino) {
    const AlignedBuffer value = bytes(length, length);
    return filesystem.set_xattr(ino, key, value.span().subspan(0, length), fs::XattrMode::any);
  });
}

Result<void> rename(Filesystem& filesystem, const char* from, const char* to,
                    fs::RenameMode mode = fs::RenameMode::replace) {
  return at(filesystem, from, [&](InodeNumber parent, std::string_view name) {
    return at(filesystem, to, [&](InodeNumber new_parent, std::string_view new_name) {
      return filesystem.rename(parent, name, new_parent, new_name, mode, {});
    });
  });
}

Result<void> unlink(Filesystem& filesystem, const char* path) {
  return at(filesystem, path, [&](InodeNumber parent, std::string_view name) {
    return filesystem.unlink(parent, name);
  });
}

Result<void> link(Filesystem& filesystem, const char* from, const char* to) {
  return with(filesystem, from, [&](InodeNumber ino) {
    return at(filesystem, to, [&](InodeNumber parent, std::string_view name) -> Result<void> {
      TRY(filesystem.link(ino, parent, name));
      filesystem.forget(ino, 1);
      return ok();
    });
  });
}

Result<void> allocate(Filesystem& filesystem, const char* name, fs::AllocateMode mode,
                      uint64_t offset, uint64_t length) {
  return with(filesystem, name, [&](InodeNumber ino) {
    return filesystem.allocate(ino, mode, offset, length, true);
  });
}

Result<void> fill(Filesystem& filesystem) {
  for (const char* name : {"inline", "blocks", "other", "twin", "large"}) {
    TRY(make(filesystem, name));
  }
  TRY(write(filesystem, "inline", 0, 100, 1));
  TRY(write(filesystem, "blocks", 0, 20'480, 2));
  TRY(write(filesystem, "other", 0, 9'000, 3));
  TRY(write(filesystem, "twin", 0, 4'096, 4));
  TRY(write(filesystem, "large", 0, 1'300'000, 5));
  TRY(link(filesystem, "twin", "twin2"));
  TRY(make(filesystem, "empty directory", 0040755));
  TRY(set_xattr(filesystem, "inline", "user.old", 50));
  return filesystem.sync();
}

Result<void> fill_small(Filesystem& filesystem) {
  TRY(make(filesystem, "A", 0040755));
  TRY(make(filesystem, "foo"));
  TRY(make(filesystem, "A/bar"));
  TRY(write(filesystem, "foo", 0, 8'192, 1));
  TRY(write(filesystem, "A/bar", 0, 100, 2));
  TRY(set_xattr(filesystem, "foo", "user.old", 50));
  return filesystem.sync();
}

/// A disk "a" with a filesystem that `fill` has filled.
Images made_with(Result<void> (*fill)(Filesystem&)) {
  Images made;
  const std::string wrong = in_world({{"a", {}}}, 1, [&](World& world) {
    fs::MkfsOptions options;
    options.volume.chunk_size = 1 << 20;
    must(fs::make_filesystem(world.runtime, world.devices, {"a"}, options), "mkfs");
    auto mount = open(world, "a");
    must(fill(mount->filesystem()), "filling");
    must(mount->close(), "close");
    mount.reset();
    made = {image_of(world, "a")};
  });
  if (!wrong.empty()) fail("{}", wrong);
  return made;
}

using F = Filesystem;
using Mode = fs::AllocateMode;

}  // namespace

const std::vector<Operation>& operations() {
  static const std::vector<Operation> all = {
      {"create", [](F& f) { return make(f, "new"); }},
      {"write inline", [](F& f) { return write(f, "inline", 20, 60, 7); }},
      {"write blocks", [](F& f) { return write(f, "inline", 0, 30'000, 8); }},
      {"overwrite", [](F& f) { return write(f, "blocks", 4'096, 8'192, 9); }},
      {"overwrite unaligned", [](F& f) { return write(f, "blocks", 3'000, 9'000, 10); }},
      {"append", [](F& f) { return write(f, "other", 0, 5'000, 11, true); }},
      {"truncate down", [](F& f) { return resize(f, "blocks", 5'000); }},
      {"truncate up", [](F& f) { return resize(f, "other", 50'000); }},
      {"punch", [](F& f) { return allocate(f, "blocks", Mode::punch_hole, 2'000, 10'000); }},
      {"preallocate", [](F& f) { return allocate(f, "blocks", Mode::allocate, 30'000, 20'000); }},
      {"rename", [](F& f) { return rename(f, "blocks", "elsewhere"); }},
      {"rename over", [](F& f) { return rename(f, "blocks", "other"); }},
      {"exchange", [](F& f) { return rename(f, "blocks", "twin", fs::RenameMode::exchange); }},
      {"link", [](F& f) { return link(f, "blocks", "second name"); }},
      {"unlink", [](F& f) { return unlink(f, "other"); }},
      {"unlink one of two", [](F& f) { return unlink(f, "twin"); }},
      {"mkdir", [](F& f) { return make(f, "new directory", 0040755); }},
      {"rmdir", [](F& f) { return f.remove_directory(kRootInode, "empty directory"); }},
      {"xattr", [](F& f) { return set_xattr(f, "inline", "user.new", 300); }},
      {"xattr large", [](F& f) { return set_xattr(f, "inline", "user.old", 9'000); }},
      {"symlink", [](F& f) { return symlink(f, "pointer"); }},
      {"new chunks", [](F& f) { return write(f, "other", 0, 2'500'000, 12); }},
      {"fewer chunks", [](F& f) { return unlink(f, "large"); }},
  };
  return all;
}

const Operation& operation(std::string_view name) {
  for (const auto& op : operations()) {
    if (op.name == name) return op;
  }
  fail("no operation {}", name);
}

const Images& prepared() {
  static const Images images = made_with(fill);
  return images;
}

const std::vector<Operation>& small_operations() {
  static const std::vector<Operation> all = {
      {"create new", [](F& f) { return make(f, "new"); }},
      {"create A/new", [](F& f) { return make(f, "A/new"); }},
      {"create foo", [](F& f) { return make(f, "foo"); }},
      {"mkdir B", [](F& f) { return make(f, "B", 0040755); }},
      {"symlink", [](F& f) { return symlink(f, "pointer"); }},
      {"overwrite foo", [](F& f) { return write(f, "foo", 0, 4'096, 7); }},
      {"overwrite foo unaligned", [](F& f) { return write(f, "foo", 3'000, 3'000, 8); }},
      {"write foo far", [](F& f) { return write(f, "foo", 40'000, 4'000, 9); }},
      {"append foo", [](F& f) { return write(f, "foo", 0, 5'000, 10, true); }},
      {"append A/bar", [](F& f) { return write(f, "A/bar", 0, 3'000, 11, true); }},
      {"write new", [](F& f) { return write(f, "new", 0, 8'192, 12); }},
      {"truncate foo down", [](F& f) { return resize(f, "foo", 3'000); }},
      {"truncate foo up", [](F& f) { return resize(f, "foo", 20'000); }},
      {"punch foo", [](F& f) { return allocate(f, "foo", Mode::punch_hole, 2'000, 4'000); }},
      {"zero foo", [](F& f) { return allocate(f, "foo", Mode::zero_range, 4'096, 8'192); }},
      {"preallocate foo", [](F& f) { return allocate(f, "foo", Mode::allocate, 8'192, 8'192); }},
      {"link foo A/foo", [](F& f) { return link(f, "foo", "A/foo"); }},
      {"link A/bar bar", [](F& f) { return link(f, "A/bar", "bar"); }},
      {"unlink foo", [](F& f) { return unlink(f, "foo"); }},
      {"unlink A/bar", [](F& f) { return unlink(f, "A/bar"); }},
      {"rename foo new", [](F& f) { return rename(f, "foo", "new"); }},
      {"rename foo A/bar", [](F& f) { return rename(f, "foo", "A/bar"); }},
      {"rename A/bar foo", [](F& f) { return rename(f, "A/bar", "foo"); }},
      {"rename new foo", [](F& f) { return rename(f, "new", "foo"); }},
      {"rename A B", [](F& f) { return rename(f, "A", "B"); }},
      {"exchange foo A/bar",
       [](F& f) { return rename(f, "foo", "A/bar", fs::RenameMode::exchange); }},
      {"rmdir A", [](F& f) { return f.remove_directory(kRootInode, "A"); }},
      {"setxattr foo", [](F& f) { return set_xattr(f, "foo", "user.new", 300); }},
      {"removexattr foo",
       [](F& f) {
         return with(f, "foo", [&](InodeNumber ino) { return f.remove_xattr(ino, "user.old"); });
       }},
  };
  return all;
}

const Images& small_prepared() {
  static const Images images = made_with(fill_small);
  return images;
}

}  // namespace moltfs::crash
