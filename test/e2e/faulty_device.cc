// SPDX-License-Identifier: MIT
// A device that fails when it is told to: serves one image file as MOUNTPOINT/image.
//
//   faulty_device IMAGE MOUNTPOINT ORDER
//
// ORDER is a file. Each request reads its first word:
//   (nothing)  the request is done
//   write      writes and fsyncs fail with EIO
//   all        reads fail, too
//   hang       requests wait until the order is another one
// Runs until MOUNTPOINT is unmounted.
#define FUSE_USE_VERSION 35
#include <fcntl.h>
#include <fuse.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <thread>

namespace {

int image = -1;
std::string order_path;

std::string order() {
  std::ifstream in(order_path);
  std::string word;
  in >> word;
  return word;
}

/// 0 if the request is to be done, else the error.
int obey(bool writes) {
  std::string word = order();
  while (word == "hang") {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    word = order();
  }
  return word == "all" || (word == "write" && writes) ? -EIO : 0;
}

int get_attributes(const char* path, struct stat* out, fuse_file_info*) {
  std::memset(out, 0, sizeof *out);
  if (std::strcmp(path, "/") == 0) {
    out->st_mode = S_IFDIR | 0755;
    out->st_nlink = 2;
    return 0;
  }
  if (std::strcmp(path, "/image") != 0) return -ENOENT;
  if (fstat(image, out) != 0) return -errno;
  out->st_ino = 2;
  return 0;
}

int list(const char*, void* buffer, fuse_fill_dir_t fill, off_t, fuse_file_info*,
         fuse_readdir_flags) {
  for (const char* name : {".", "..", "image"})
    fill(buffer, name, nullptr, 0, fuse_fill_dir_flags());
  return 0;
}

int open_image(const char*, fuse_file_info* info) {
  info->direct_io = 1;
  return 0;
}

int read_image(const char*, char* into, size_t size, off_t offset, fuse_file_info*) {
  if (const int error = obey(false); error != 0) return error;
  const ssize_t done = pread(image, into, size, offset);
  return done < 0 ? -errno : static_cast<int>(done);
}

int write_image(const char*, const char* from, size_t size, off_t offset, fuse_file_info*) {
  if (const int error = obey(true); error != 0) return error;
  const ssize_t done = pwrite(image, from, size, offset);
  return done < 0 ? -errno : static_cast<int>(done);
}

int sync_image(const char*, int, fuse_file_info*) {
  if (const int error = obey(true); error != 0) return error;
  return fdatasync(image) == 0 ? 0 : -errno;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: faulty_device IMAGE MOUNTPOINT ORDER\n");
    return 1;
  }
  image = open(argv[1], O_RDWR | O_CLOEXEC);
  if (image < 0) {
    std::perror(argv[1]);
    return 1;
  }
  order_path = argv[3];
  fuse_operations operations{};
  operations.getattr = get_attributes;
  operations.readdir = list;
  operations.open = open_image;
  operations.read = read_image;
  operations.write = write_image;
  operations.fsync = sync_image;
  char options[] = "-oallow_other,auto_unmount", foreground[] = "-f";
  char* arguments[] = {argv[0], foreground, options, argv[2], nullptr};
  return fuse_main(4, arguments, &operations, nullptr);
}
