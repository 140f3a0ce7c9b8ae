// SPDX-License-Identifier: MIT
// A device that rots: see the header.
#include "test/sim/rot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <stdexcept>
#include <utility>

#include "fs/tree/format.h"

namespace moltfs::sim {

namespace {

template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw std::runtime_error("rot: " + fmt::format(format, std::forward<Args>(args)...));
}

constexpr char kDirectory[] = "rot";

/// Offset of the page with these bytes; 0 if there is none, or more than one.
uint64_t find_page(const PageImage& image, const PageImage::Page& bytes) {
  uint64_t found = 0, count = 0;
  image.for_each([&](uint64_t offset, const PageImage::Page& page) {
    if (page != bytes) return;
    found = offset;
    ++count;
  });
  return count == 1 ? found : 0;
}

std::vector<std::byte> bytes_at(const PageImage& image, uint64_t offset, uint64_t length) {
  std::vector<std::byte> bytes(length);
  image.read(offset, bytes);
  return bytes;
}

}  // namespace

Rot::Page Rot::fresh_bytes() {
  Page page;
  const uint64_t stamp = ++stamp_;
  for (uint64_t i = 0; i < kPage; ++i) {
    page[i] = static_cast<std::byte>((stamp * 0xd1342543de82ef95 + i * 0xff51afd7ed558ccd) >> 41);
  }
  return page;
}

Rot::Block& Rot::any_block() {
  auto& blocks = files_[scheduler_.random(files_.size())].blocks;
  return blocks[scheduler_.random(blocks.size())];
}

void Rot::make(fs::Filesystem& filesystem, const Disk& member) {
  auto directory = filesystem.make(fs::kRootInode, kDirectory, 0040755, 0, {});
  if (!directory) fail("mkdir: {}", directory.error().message());
  const uint64_t count = 2 + scheduler_.random(3);
  for (uint64_t i = 0; i < count; ++i) {
    File file{fmt::format("f{}", i), {}, std::vector<Block>(2 + scheduler_.random(40))};
    auto made = filesystem.make(directory.value().ino, file.name, 0100644, 0, {});
    if (!made) fail("create: {}", made.error().message());
    file.ino = made.value().ino;
    AlignedBuffer buffer(file.blocks.size() * kPage);
    for (size_t b = 0; b < file.blocks.size(); ++b) {
      file.blocks[b].bytes = fresh_bytes();
      std::memcpy(buffer.data() + b * kPage, file.blocks[b].bytes.data(), kPage);
    }
    auto written = filesystem.write(file.ino, 0, buffer.span(), {});
    if (!written) fail("write: {}", written.error().message());
    filesystem.forget(file.ino, 1);
    files_.push_back(std::move(file));
  }
  filesystem.forget(directory.value().ino, 1);
  auto committed = filesystem.commit();
  if (!committed) fail("commit: {}", committed.error().message());
  for (File& file : files_) {
    for (Block& block : file.blocks) {
      block.place = find_page(member.current, block.bytes);
      if (block.place == 0) fail("a block of {} is not on the device", file.name);
    }
  }
}

bool Rot::step(fs::Filesystem& filesystem, const Member& member) {
  Disk& disk = devices_.disk(member().name);
  const uint64_t dice = scheduler_.random(10);
  if (dice < 3) {
    spoil_block(disk);
  } else if (dice < 5) {
    spoil_node(disk);
  } else if (dice < 6) {
    return rewrite(filesystem, member);
  } else {
    return read_file(filesystem, member, files_[scheduler_.random(files_.size())]);
  }
  return true;
}

// ---- Rot

/// Changes the medium: a bit, a sector, or zeros in one page.
void Rot::spoil(Disk& disk, uint64_t offset, uint64_t length) {
  const uint64_t at = offset + scheduler_.random(length / kPage) * kPage;
  auto bytes = bytes_at(disk.current, at, kPage);
  const uint64_t kind = scheduler_.random(3);
  if (kind == 0) {
    bytes[scheduler_.random(kPage)] ^= static_cast<std::byte>(1 << scheduler_.random(8));
  } else if (kind == 1) {
    const uint64_t sector = scheduler_.random(kPage / 512) * 512;
    const Page noise = fresh_bytes();
    std::copy_n(noise.begin(), 512, bytes.begin() + static_cast<ptrdiff_t>(sector));
  } else {
    std::fill(bytes.begin(), bytes.end(), std::byte{0});
  }
  disk.current.write(at, bytes);
  disk.durable.write(at, bytes);
}

void Rot::spoil_block(Disk& disk) {
  Block& block = any_block();
  if (block.place == 0 || block.next || !is_good(block, disk)) return;
  spoil(disk, block.place, kPage);
  block.spoilt_on = disk.name;
  ++spoilt_block_count_;
}

/// Only a copy whose twin is good on the medium, so that one good copy always exists.
void Rot::spoil_node(Disk& disk) {
  std::map<std::vector<std::byte>, std::vector<uint64_t>> places;
  std::vector<uint64_t> candidates;
  disk.durable.for_each([&](uint64_t offset, const Page& page) {
    fs::NodeHeader header;
    std::memcpy(&header, page.data(), sizeof header);
    if (header.magic != fs::kNodeMagic) return;
    places[std::vector<std::byte>(page.begin(), page.begin() + sizeof header)].push_back(offset);
  });
  auto sound = [&](uint64_t offset, const std::vector<std::byte>& want) {
    return bytes_at(disk.durable, offset, kNodeSize) == want &&
           bytes_at(disk.current, offset, kNodeSize) == want;
  };
  for (const auto& [header, at] : places) {
    if (at.size() != 2) continue;
    candidates.insert(candidates.end(), at.begin(), at.end());
  }
  if (candidates.empty()) return;
  const size_t index = scheduler_.random(candidates.size());
  const uint64_t offset = candidates[index], twin = candidates[index ^ 1];
  const auto bytes = bytes_at(disk.durable, offset, kNodeSize);
  if (!sound(offset, bytes) || !sound(twin, bytes)) return;
  spoil(disk, offset, kNodeSize);
  auto spoilt = bytes_at(disk.current, offset, kNodeSize);
  if (spoilt == bytes) return;  // zeros where zeros were
  nodes_.push_back({disk.name, offset, std::move(spoilt)});
}

// ---- Use

bool Rot::is_good(const Block& block, const Disk& disk) {
  Page now;
  disk.current.read(block.place, now);
  return now == block.bytes;
}

bool Rot::rewrite(fs::Filesystem& filesystem, const Member& member) {
  File& file = files_[scheduler_.random(files_.size())];
  const size_t index = scheduler_.random(file.blocks.size());
  Block& block = file.blocks[index];
  if (block.next) return true;
  block.next = fresh_bytes();
  AlignedBuffer buffer(kPage);
  std::memcpy(buffer.data(), block.next->data(), kPage);
  auto written = filesystem.write(file.ino, index * kPage, buffer.span(), {});
  if (!written && written.error().code == Errc::no_space) {
    block.next.reset();
    return true;
  }
  Result<void> done = ok();
  if (!written) {
    done = written.error();
  } else {
    done = filesystem.commit();
  }
  if (!devices_.power()) return false;  // the power may have gone after the success
  if (!done) fail("writing {}: {}", file.name, done.error().message());
  block.bytes = *std::exchange(block.next, std::nullopt);
  block.place = find_page(member().current, block.bytes);
  block.spoilt_on.clear();
  return true;
}

bool Rot::read_file(fs::Filesystem& filesystem, const Member& member, File& file) {
  for (size_t i = 0; i < file.blocks.size(); ++i) {
    if (!read_block(filesystem, member, file, i)) return false;
  }
  return true;
}

bool Rot::read_block(fs::Filesystem& filesystem, const Member& member, File& file, size_t index) {
  const Block& block = file.blocks[index];
  const auto good_now = [&] { return block.place == 0 || is_good(block, member()); };
  const bool good_before = good_now();
  AlignedBuffer buffer(kPage);
  auto read = filesystem.read(file.ino, index * kPage, buffer.span());
  if (!devices_.power()) return false;
  if (!read) {
    if (good_before && good_now()) {
      fail("{}/{} at {} is good on {}, but: {}", kDirectory, file.name, index * kPage,
           member().name, read.error().message());
    }
    return true;
  }
  auto is = [&](const Page& page) { return std::memcmp(buffer.data(), page.data(), kPage) == 0; };
  if (read.value() == kPage && (is(block.bytes) || (block.next && is(*block.next)))) return true;
  fail("{}/{} at {}: wrong bytes and no error", kDirectory, file.name, index * kPage);
}

void Rot::verify(fs::Filesystem& filesystem, const Member& member) {
  for (File& file : files_) {
    for (size_t i = 0; i < file.blocks.size(); ++i) {
      Block& block = file.blocks[i];
      if (block.next) {
        AlignedBuffer buffer(kPage);
        auto read = filesystem.read(file.ino, i * kPage, buffer.span());
        const bool is_new = read && std::memcmp(buffer.data(), block.next->data(), kPage) == 0;
        if (is_new) {
          block.bytes = *block.next;
          block.place = find_page(member().current, block.bytes);
          block.spoilt_on.clear();
        }
        block.next.reset();
      }
      if (!read_block(filesystem, member, file, i)) return;
    }
  }
}

// ---- What the product says

/// All blocks that the target lacks must be counted, but not blocks that rotted on the target
/// itself after it became the member.
void Rot::check_finished(const replace::Status& status, const Disk& target) const {
  uint64_t lost = 0;
  for (const File& file : files_) {
    for (const Block& block : file.blocks) {
      if (block.place == 0 || block.next || block.spoilt_on == target.name) continue;
      if (!is_good(block, target)) ++lost;
    }
  }
  const auto& errors = status.errors;
  if (errors.read_uncorrectable < lost) {
    fail("the target lacks {} blocks, but the status counts {}", lost, errors.read_uncorrectable);
  }
  if (lost > 0 && status.reason.find(std::string("/") + kDirectory + "/f") == std::string::npos) {
    fail("the target lacks {} blocks, but the status names no file: {}", lost, status.reason);
  }
  if (errors.read_uncorrectable > 0 && spoilt_block_count_ == 0) {
    fail("{} blocks are counted as lost, and none rotted", errors.read_uncorrectable);
  }
  if (errors.read_corrected > 0 && nodes_.empty()) {
    fail("{} blocks are counted as corrected, and no node rotted", errors.read_corrected);
  }
}

void Rot::check_findings(const fs::CheckReport& report, const Disk& member) const {
  std::set<std::string> rotten, found;
  for (const File& file : files_) {
    for (const Block& block : file.blocks) {
      if (block.place != 0 && !is_good(block, member)) rotten.insert(file.name);
    }
  }
  const bool bad_nodes = std::any_of(nodes_.begin(), nodes_.end(), [&](const SpoiltNode& node) {
    return node.disk == member.name &&
           bytes_at(member.current, node.offset, kNodeSize) == node.bytes;
  });
  const std::string prefix = fmt::format("/{}/", kDirectory);
  for (const auto& [where, what] : report.findings) {
    if (where.starts_with(prefix)) {
      found.insert(where.substr(prefix.size(), where.find(' ') - prefix.size()));
    } else if (!bad_nodes || what.find("is bad") == std::string::npos) {
      fail("check: {}: {}", where, what);
    }
  }
  if (found != rotten) {
    fail("{} files are rotten, check names {}", rotten.size(), found.size());
  }
}

}  // namespace moltfs::sim
