// SPDX-License-Identifier: MIT
#include "alloc/base/small_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "alloc/base/descriptor.h"

namespace moltfs {

std::optional<std::string> read_small_file(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  return file ? read_small_file(file.get()) : std::nullopt;
}

std::optional<std::string> read_small_file(int fd) {
  std::string text;
  char part[4096];
  for (;;) {
    const ssize_t size = pread(fd, part, sizeof part, static_cast<off_t>(text.size()));
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return std::nullopt;
    if (size == 0) return text;
    text.append(part, static_cast<size_t>(size));
  }
}

std::optional<uint64_t> leading_number(std::string_view text) {
  uint64_t number = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  return parsed.ec == std::errc() ? std::optional(number) : std::nullopt;
}

std::optional<uint64_t> read_number(const std::string& path) {
  const auto text = read_small_file(path);
  return text ? leading_number(*text) : std::nullopt;
}

}  // namespace moltfs
