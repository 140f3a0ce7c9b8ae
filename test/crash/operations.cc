// SPDX-License-Identifier: MIT
// The operations and what they work on: see the header.
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

/// Calls `act` with the inode of the file, referenced meanwhile.
Result<void> with(Filesystem& filesystem, const char* name,
                  const std::function<Result<void>(InodeNumber)>& act) {
  TRY(auto attributes, filesystem.lookup(kRootInode, name));
  auto done = act(attributes.ino);
  filesystem.forget(attributes.ino, 1);
  return done;
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

Result<void> make(Filesystem& filesystem, const char* name, uint32_t mode = 0100644) {
  TRY(auto made, filesystem.make(kRootInode, name, mode, 0, {}));
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
  return filesystem.rename(kRootInode, from, kRootInode, to, mode, {});
}

Result<void> link(Filesystem& filesystem, const char* from, const char* to) {
  return with(filesystem, from, [&](InodeNumber ino) -> Result<void> {
    TRY(filesystem.link(ino, kRootInode, to));
    filesystem.forget(ino, 1);
    return ok();
  });
}

Result<void> allocate(Filesystem& filesystem, fs::AllocateMode mode, uint64_t offset,
                      uint64_t length) {
  return with(filesystem, "blocks", [&](InodeNumber ino) {
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

using F = Filesystem;

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
      {"punch", [](F& f) { return allocate(f, fs::AllocateMode::punch_hole, 2'000, 10'000); }},
      {"preallocate", [](F& f) { return allocate(f, fs::AllocateMode::allocate, 30'000, 20'000); }},
      {"rename", [](F& f) { return rename(f, "blocks", "elsewhere"); }},
      {"rename over", [](F& f) { return rename(f, "blocks", "other"); }},
      {"exchange", [](F& f) { return rename(f, "blocks", "twin", fs::RenameMode::exchange); }},
      {"link", [](F& f) { return link(f, "blocks", "second name"); }},
      {"unlink", [](F& f) { return f.unlink(kRootInode, "other"); }},
      {"unlink one of two", [](F& f) { return f.unlink(kRootInode, "twin"); }},
      {"mkdir", [](F& f) { return make(f, "new directory", 0040755); }},
      {"rmdir", [](F& f) { return f.remove_directory(kRootInode, "empty directory"); }},
      {"xattr", [](F& f) { return set_xattr(f, "inline", "user.new", 300); }},
      {"xattr large", [](F& f) { return set_xattr(f, "inline", "user.old", 9'000); }},
      {"symlink",
       [](F& f) -> Result<void> {
         TRY(auto made, f.symlink(kRootInode, "pointer", "where/it/points", {}));
         f.forget(made.ino, 1);
         return ok();
       }},
      {"new chunks", [](F& f) { return write(f, "other", 0, 2'500'000, 12); }},
      {"fewer chunks", [](F& f) { return f.unlink(kRootInode, "large"); }},
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
  static const Images images = [] {
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
  }();
  return images;
}

}  // namespace moltfs::crash
