// SPDX-License-Identifier: MIT
#include "alloc/base/small_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

namespace moltfs {

std::optional<std::string> read_small_file(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  std::string text;
  char part[4096];
  for (;;) {
    const ssize_t size = read(fd, part, sizeof part);
    if (size > 0) {
      text.append(part, static_cast<size_t>(size));
    } else if (size == 0 || errno != EINTR) {
      close(fd);
      return size == 0 ? std::optional(std::move(text)) : std::nullopt;
    }
  }
}

std::optional<uint64_t> read_number(const std::string& path) {
  const auto text = read_small_file(path);
  uint64_t number = 0;
  if (!text) return std::nullopt;
  const auto parsed = std::from_chars(text->data(), text->data() + text->size(), number);
  return parsed.ec == std::errc() ? std::optional(number) : std::nullopt;
}

}  // namespace moltfs
