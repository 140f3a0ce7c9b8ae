// SPDX-License-Identifier: MIT
// moltfs mkfs, also called mkfs.moltfs.
#include <fmt/format.h>
#include <unistd.h>

#include <optional>
#include <string>
#include <vector>

#include "alloc/base/size_text.h"
#include "alloc/base/utf8.h"
#include "alloc/device/system_devices.h"
#include "alloc/disk/peek.h"
#include "alloc/disk/superblock.h"
#include "alloc/disk/volume_settings.h"
#include "fs/mount/mount.h"
#include "fs/tool/command_line.h"
#include "fs/tool/output.h"

namespace moltfs::fs::tool {
namespace {

constexpr const char* kMkfs = "mkfs";

int usage_error(const std::string& message) {
  print_error("moltfs {}: {}\n", kMkfs, printable(message));
  return kExitUsage;
}

Result<uint64_t> parse_chunk_size(const std::string& text) {
  const auto size = parse_size(text);
  if (!size) return Error(Errc::invalid_argument, fmt::format("\"{}\" is not a size", text));
  TRY(alloc::check_chunk_size(*size));
  return *size;
}

/// As the user wrote them; empty: not given.
struct Choices {
  std::string chunk_size, data_profile, metadata_profile;
};

Result<alloc::Profile> parse_profile(const std::string& text, alloc::Profile usual) {
  if (text.empty()) return usual;
  if (const auto profile = alloc::profile_named(text)) return *profile;
  std::string known;
  for (const alloc::Profile profile : alloc::kAllProfiles) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", alloc::name_of(profile));
  }
  return Error(Errc::invalid_argument,
               fmt::format("\"{}\" is not a profile; the profiles are {}", text, known));
}

/// Checks what CLI11 does not, and stores it in `options`.
Result<void> complete(MkfsOptions& options, const Choices& choices, size_t device_count) {
  alloc::Volume::CreateOptions& volume = options.volume;
  TRY(alloc::check_label(volume.label));
  const alloc::Profiles usual = alloc::default_profiles(device_count);
  TRY(volume.data_profile, parse_profile(choices.data_profile, usual.data));
  TRY(volume.metadata_profile, parse_profile(choices.metadata_profile, usual.metadata));
  if (choices.chunk_size.empty()) return ok();
  TRY(volume.chunk_size, parse_chunk_size(choices.chunk_size));
  return ok();
}

Result<void> print_summary(alloc::DeviceOpener& opener, const std::vector<std::string>& paths) {
  uint64_t total = 0;
  std::optional<alloc::Superblock> super;
  for (const std::string& path : paths) {
    TRY(const auto device, alloc::open_shared(opener, path));
    TRY(super, alloc::read_superblock(opener.engine(), *device));
    print_note("device      {}  {}\n", printable(device->path()), human_size(device->size_bytes()));
    total += device->size_bytes();
  }
  if (!super->label.empty()) print_note("label       {}\n", printable(super->label));
  print_note("uuid        {}\n", super->volume.to_string());
  print_note("size        {} ({} bytes)\n", human_size(total), total);
  print_note("chunk size  {}; data {}, metadata {}\n", human_size(super->chunk_size),
             alloc::name_of(super->data_profile), alloc::name_of(super->metadata_profile));
  print_note("redundancy  {}\n",
             alloc::survival_text({super->data_profile, super->metadata_profile}, paths.size()));
  return ok();
}

int make(const std::vector<std::string>& paths, const MkfsOptions& options, bool quiet) {
  RealRuntime runtime;
  const auto opener = alloc::make_system_devices(runtime);
  const auto made = make_filesystem(runtime, *opener, paths, options);
  if (!made) return fail(kMkfs, made.error());
  if (quiet) return kExitOk;
  const auto printed = print_summary(*opener, paths);
  return printed ? kExitOk : fail(kMkfs, printed.error());
}

}  // namespace

int mkfs_command(int argc, char** argv) {
  CommandLine app("Makes a filesystem on DEVICE..., block devices or image files.", "moltfs mkfs");
  MkfsOptions options;
  std::vector<std::string> paths;
  Choices choices;
  bool quiet = false;
  app.add_option("-L,--label", options.volume.label, "the label of the filesystem");
  app.add_flag("-f,--force", options.force, "overwrite a filesystem that is there");
  app.add_option("-d,--data", choices.data_profile,
                 "single, dup, raid1, raid1c3, raid1c4, raid0, raid10 (default: single; raid1 on "
                 "several devices)")
      .type_name("PROFILE");
  app.add_option("-m,--metadata", choices.metadata_profile,
                 "the same for metadata (default: dup; raid1 on several devices)")
      .type_name("PROFILE");
  app.add_option("--chunk-size", choices.chunk_size,
                 "a power of two (default: by the size of the devices)")
      .type_name("SIZE");
  app.add_flag("-q,--quiet", quiet, "print no summary");
  app.add_option("DEVICE", paths).required();
  return app.run(argc, argv, [&] {
    const auto completed = complete(options, choices, paths.size());
    if (!completed) return usage_error(completed.error().message());
    options.uid = geteuid();
    options.gid = getegid();
    return make(paths, options, quiet);
  });
}

}  // namespace moltfs::fs::tool
