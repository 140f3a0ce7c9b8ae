// SPDX-License-Identifier: MIT
// moltfs mkfs, and mkfs.moltfs: makes a filesystem on devices or image files.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "alloc/base/size_text.h"
#include "alloc/device/system_devices.h"
#include "alloc/disk/superblock.h"
#include "fs/mount/mount.h"
#include "fs/tool/command_line.h"

namespace moltfs::fs::tool {
namespace {

constexpr const char* kNoun = "mkfs";

int usage_error(const std::string& message) {
  fmt::print(stderr, "moltfs {}: {}\n", kNoun, message);
  return kExitUsage;
}

/// What is wrong with it; empty if nothing.
std::string fault_of_label(const std::string& label) {
  if (label.size() > alloc::kMaxLabelBytes) {
    return fmt::format("a label has at most {} bytes, this one has {}", alloc::kMaxLabelBytes,
                       label.size());
  }
  const auto is_control = [](unsigned char c) { return c < 0x20 || c == 0x7f; };
  if (std::any_of(label.begin(), label.end(), is_control)) {
    return "a label holds no control characters";
  }
  return {};
}

std::string fault_of_chunk_size(std::optional<uint64_t> size, const std::string& text) {
  if (size && *size >= alloc::kMinChunkSize && *size <= alloc::kMaxChunkSize &&
      (*size & (*size - 1)) == 0) {
    return {};
  }
  return fmt::format("chunk size \"{}\": expected a power of two from {} to {}", text,
                     human_size(alloc::kMinChunkSize), human_size(alloc::kMaxChunkSize));
}

Result<void> print_summary(alloc::DeviceOpener& opener, const std::vector<std::string>& paths) {
  uint64_t total = 0;
  std::optional<alloc::Superblock> super;
  for (const std::string& path : paths) {
    TRY(const auto device, opener.open(path, {.read_only = true, .exclusive = false}));
    TRY(super, alloc::read_superblock(opener.engine(), *device));
    fmt::print("device      {}  {}\n", device->path(), human_size(device->size_bytes()));
    total += device->size_bytes();
  }
  if (!super->label.empty()) fmt::print("label       {}\n", super->label);
  fmt::print("uuid        {}\n", super->volume.to_string());
  fmt::print("size        {} ({} bytes)\n", human_size(total), total);
  fmt::print("chunk size  {}; data {}, metadata {}\n", human_size(super->chunk_size),
             alloc::name_of(super->data_profile), alloc::name_of(super->metadata_profile));
  return ok();
}

int make(const std::vector<std::string>& paths, const MkfsOptions& options, bool quiet) {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  const auto made = make_filesystem(runtime, *opener, paths, options);
  if (!made) return fail(kNoun, made.error());
  if (quiet) return kExitOk;
  const auto printed = print_summary(*opener, paths);
  return printed ? kExitOk : fail(kNoun, printed.error());
}

}  // namespace

int mkfs_command(int argc, char** argv) {
  CommandLine app("Makes a filesystem on DEVICE..., block devices or image files.", "moltfs mkfs");
  MkfsOptions options;
  std::vector<std::string> paths;
  std::string chunk_size;
  bool quiet = false;
  app.add_option("-L,--label", options.volume.label, "name of the filesystem");
  app.add_flag("-f,--force", options.force, "overwrite a filesystem that lies there");
  app.add_option("--chunk-size", chunk_size, "a power of two (default: by the size)")
      .type_name("SIZE");
  app.add_flag("-q,--quiet", quiet, "no summary");
  app.add_option("DEVICE", paths).required();
  return app.run(argc, argv, [&] {
    if (const auto fault = fault_of_label(options.volume.label); !fault.empty()) {
      return usage_error(fault);
    }
    if (!chunk_size.empty()) {
      const auto size = parse_size(chunk_size);
      if (const auto fault = fault_of_chunk_size(size, chunk_size); !fault.empty()) {
        return usage_error(fault);
      }
      options.volume.chunk_size = *size;
    }
    options.uid = geteuid();
    options.gid = getegid();
    return make(paths, options, quiet);
  });
}

}  // namespace moltfs::fs::tool
