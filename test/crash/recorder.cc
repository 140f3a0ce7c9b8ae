// SPDX-License-Identifier: MIT
// A log of writes and flushes, and the images of every cut.
#include "test/crash/recorder.h"

#include <array>
#include <cstring>
#include <string_view>

namespace moltfs::crash {

using sim::DiskEvent;
using sim::kPage;

Recorder::Recorder(World& world) {
  world.devices.set_observer([this](const sim::Disk& disk, DiskEvent event, uint64_t offset,
                                    ConstBytes bytes) { observe(disk, event, offset, bytes); });
}

void Recorder::observe(const sim::Disk& disk, DiskEvent kind, uint64_t offset, ConstBytes bytes) {
  if (kind == DiskEvent::read) return;
  Event event{disk.name, kind, offset, bytes.size(), {bytes.begin(), bytes.end()}, 0};
  if (kind == DiskEvent::discard) event.length = disk.unflushed.back().discard_length;
  if (kind == DiskEvent::flush) event.still_unflushed = disk.unflushed.size();
  events_.push_back(std::move(event));
}

Recorder::Allowed Recorder::allowed_at(size_t event) const {
  Allowed allowed;
  for (const auto& [from, state] : durable_) {
    if (from <= event) allowed.first = state;
  }
  for (const size_t from : issued_) allowed.last += from <= event;
  return allowed;
}

/// The disks while the events are replayed.
class Recorder::Replay {
 public:
  /// What a cut does to one unflushed write.
  enum class Fate : uint8_t { lost, whole, first_half, second_half, sectors };

  explicit Replay(const Images& start) : images_(start) {}

  /// Not yet flushed, in order of completion.
  const std::vector<const Event*>& pending() const { return pending_; }

  void apply(const Event& event) {
    if (event.kind != DiskEvent::flush) {
      pending_.push_back(&event);
      return;
    }
    size_t of_disk = 0;
    for (const Event* write : pending_) of_disk += write->disk == event.disk;
    size_t covered = of_disk - event.still_unflushed;
    std::vector<const Event*> rest;
    for (const Event* write : pending_) {
      if (write->disk == event.disk && covered > 0) {
        --covered;
        std::mt19937 unused;
        change(images_, hash_, *write, Fate::whole, unused);
      } else {
        rest.push_back(write);
      }
    }
    pending_ = std::move(rest);
  }

  /// The images that these fates of the unflushed writes give, and their hash.
  std::pair<Images, uint64_t> cut(const std::vector<Fate>& fates, uint64_t seed) const {
    Images images = images_;
    uint64_t hash = hash_;
    std::mt19937 random(static_cast<uint32_t>(seed));
    for (size_t i = 0; i < pending_.size(); ++i) {
      change(images, hash, *pending_[i], fates[i], random);
    }
    return {std::move(images), hash};
  }

 private:
  /// Of a page that holds `bytes`; 0 if they are zeros, as of a page that was never written.
  static uint64_t page_hash(const sim::PageImage::Page& bytes, size_t disk, uint64_t page) {
    static constexpr sim::PageImage::Page zeros{};
    if (std::memcmp(bytes.data(), zeros.data(), bytes.size()) == 0) return 0;
    uint64_t hash =
        std::hash<std::string_view>{}({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    hash ^= (page * 8 + disk + 1) * 0x9e3779b97f4a7c15;
    hash *= 0xff51afd7ed558ccd;
    return hash ^ hash >> 31;
  }

  static uint64_t range_hash(const sim::PageImage& image, size_t disk, uint64_t offset,
                             uint64_t length) {
    uint64_t hash = 0;
    image.for_each_in(offset, length, [&](uint64_t at, const sim::PageImage::Page& bytes) {
      hash ^= page_hash(bytes, disk, at / kPage);
    });
    return hash;
  }

  /// The hash of images is the xor over their pages: relative to the start, that is 0.
  static void change(Images& images, uint64_t& hash, const Event& write, Fate fate,
                     std::mt19937& random) {
    if (fate == Fate::lost) return;
    size_t disk = 0;
    while (images[disk].name != write.disk) ++disk;
    auto& image = images[disk].bytes;
    if (write.kind == DiskEvent::discard) {  // never torn
      hash ^= range_hash(image, disk, write.offset, write.length);
      image.zero(write.offset, write.length);
      return;
    }
    hash ^= range_hash(image, disk, write.offset, write.length);
    const uint64_t half = write.length / 2;
    if (fate == Fate::whole) image.write(write.offset, write.bytes);
    for (uint64_t at = 0; at < write.length && fate != Fate::whole; at += 512) {
      if (fate == Fate::first_half && at >= half) continue;
      if (fate == Fate::second_half && at < half) continue;
      if (fate == Fate::sectors && random() % 2 == 0) continue;
      image.write(write.offset + at, ConstBytes(write.bytes).subspan(at, 512));
    }
    hash ^= range_hash(image, disk, write.offset, write.length);
  }

  Images images_;
  uint64_t hash_ = 0;
  std::vector<const Event*> pending_;
};

bool Recorder::allows(const Allowed& range, const DirState& found, std::string* why) const {
  for (size_t k = range.first; k <= range.last; ++k) {
    if (sim::same(states_[k], found, k == range.last ? why : nullptr)) return true;
    if (k < range.last && sim::lies_between(states_[k], states_[k + 1], found)) return true;
  }
  return false;
}

void Recorder::each_cut(const Images& start, unsigned random_subsets, const Visitor& visit,
                        size_t first) const {
  using Fate = Replay::Fate;
  Replay replay(start);
  std::mt19937 random(1);
  for (size_t at = 0; at <= events_.size(); ++at) {
    if (at < first) {
      replay.apply(events_[at]);
      continue;
    }
    const size_t n = replay.pending().size();
    auto show = [&](std::vector<Fate> fates, std::string how) {
      const auto [images, hash] = replay.cut(fates, at);
      visit({at, std::move(how), hash, allowed_at(at)}, images);
    };
    auto all_but = [&](Fate others, size_t i, Fate fate, const char* how) {
      std::vector<Fate> fates(n, others);
      fates[i] = fate;
      show(fates, fmt::format("{} {} of {}", how, i, n));
    };
    show(std::vector<Fate>(n, Fate::lost), "none");
    show(std::vector<Fate>(n, Fate::whole), "all");
    for (size_t i = 0; i < n; ++i) {
      all_but(Fate::whole, i, Fate::lost, "lost");
      all_but(Fate::lost, i, Fate::whole, "alone");
    }
    if (at < events_.size() && events_[at].kind != DiskEvent::flush) {
      replay.apply(events_[at]);
      continue;
    }
    for (size_t i = 0; i < n; ++i) {
      for (const Fate fate : {Fate::first_half, Fate::second_half, Fate::sectors}) {
        all_but(Fate::whole, i, fate, "all there, torn");
        all_but(Fate::lost, i, fate, "alone and torn");
      }
    }
    for (unsigned k = 0; n > 1 && k < random_subsets; ++k) {
      std::vector<Fate> fates(n);
      for (auto& fate : fates) {
        const auto dice = random() % 8;
        fate = dice < 4 ? Fate::lost : dice < 7 ? Fate::whole : Fate::sectors;
      }
      show(fates, fmt::format("random subset {}", k));
    }
    if (at < events_.size()) replay.apply(events_[at]);
  }
}

}  // namespace moltfs::crash
