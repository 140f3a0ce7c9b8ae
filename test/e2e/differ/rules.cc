// SPDX-License-Identifier: MIT
// The rules.
#include "test/e2e/differ/rules.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test/e2e/differ/world.h"

namespace differ {
namespace {

bool is_kind(const Difference& d, std::string_view name) {
  return d.call != nullptr && name == d.call->kind->name;
}

bool ends_with(const std::string& text, std::string_view end) {
  return std::string_view(text).ends_with(end);
}

bool directory_links(const Difference& d, Peer peer) {
  return peer == Peer::btrfs && ends_with(d.fact, "links") && d.theirs == "1";
}

bool is_read(const Difference& d) {
  return ends_with(d.fact, "accessed") ||
         (ends_with(d.fact, "atime") && (d.ours == "recent" || d.theirs == "recent"));
}

/// What kind of inode the fact is about, as in the mode: "01" a fifo, "02" a character device, "10"
/// a file, "12" a symlink.
std::string type_of(const Difference& d) {
  std::string about = d.fact.substr(0, d.fact.rfind(' '));
  const auto mode = d.our_facts->find(about + " mode");
  return mode == d.our_facts->end() ? "" : mode->second.substr(0, 2);
}

bool cached_reads(const Difference& d, Peer) {
  return is_read(d) && (type_of(d) == "10" || type_of(d) == "12");
}

/// "a=1 b=2" without the word that begins with `key`.
std::string without(std::string words, const std::string& key) {
  const size_t begin = words.find(key);
  if (begin != std::string::npos) words.erase(begin, words.find(' ', begin) - begin);
  return words;
}

bool special_file_times(const Difference& d, Peer) {
  if (is_kind(d, "statx") && d.fact == "answer") {
    const bool is_special =
        d.ours.find("mode=01") != std::string::npos || d.ours.find("mode=02") != std::string::npos;
    return is_special && without(d.ours, "mtime=") == without(d.theirs, "mtime=");
  }
  const std::string type = type_of(d);
  if (type != "01" && type != "02") return false;
  // A time that was set to another age stays so, where others move it.
  if (ends_with(d.fact, "mtime")) return d.theirs == "recent";
  const bool is_transfer = is_kind(d, "write") || is_kind(d, "read");
  return is_transfer && (ends_with(d.fact, "moved") || ends_with(d.fact, "accessed"));
}

bool whiteout_of_ext4(const Difference& d, Peer peer) {
  return peer == Peer::ext4 && is_kind(d, "renameat2") && (d.call->number(0) & RENAME_WHITEOUT) &&
         ends_with(d.fact, "moved") && d.our_facts->at("result") != "0";
}

/// POSIX asks for new times where the size changes.
bool same_size_of_ext4(const Difference& d, Peer peer) {
  if (peer != Peer::ext4 || !is_kind(d, "truncate") || d.our_facts->at("result") != "0")
    return false;
  // A time that was set to another age stays so, where ext4 moves it.
  return (ends_with(d.fact, "moved") && d.ours == "none" && d.theirs == "mc") ||
         (ends_with(d.fact, "mtime") && d.theirs == "recent");
}

bool same_value_of_ext4(const Difference& d, Peer peer) {
  return peer == Peer::ext4 && is_kind(d, "setxattr") && d.our_facts->at("result") == "0" &&
         ends_with(d.fact, "moved") && d.ours == "c" && d.theirs == "none";
}

bool trusted_names(const Difference& d, Peer peer) {
  if (peer != Peer::btrfs || !is_kind(d, "listxattr")) return false;
  if (identities()[d.call->user].uid == 0) return false;
  if (d.fact == "answer") return d.theirs.find("trusted.") != std::string::npos;
  // Longer than ours by such names, or too long.
  return d.fact == "result" &&
         (d.theirs == "ERANGE" || atoll(d.theirs.c_str()) > atoll(d.ours.c_str()));
}

bool acl_removed(const Difference& d, Peer) {
  constexpr size_t kEmptyAclBytes = 4;
  const bool removes = is_kind(d, "removexattr") ||
                       (is_kind(d, "setxattr") && d.call->bytes.size() == kEmptyAclBytes);
  return removes && d.call->attribute.starts_with("system.posix_acl_") &&
         ends_with(d.fact, "moved") && d.our_facts->at("result") == "0";
}

constexpr Rule kRules[] = {
    {"acl-removed",
     "removing an ACL that is not there succeeds, and the kernel then moves ctime for FUSE",
     acl_removed},
    {"cached-reads",
     "reads of files and symlinks from the kernel's cache are not told to a FUSE filesystem: "
     "opening a file for reading moves its atime (where relatime would), later reads may not",
     cached_reads},
    {"same-size-of-ext4",
     "truncate(2) to the size that a file has moves its times on ext4; on moltfs and btrfs it does "
     "not",
     same_size_of_ext4},
    {"same-value-of-ext4",
     "setting an attribute to the value that it has leaves ctime alone on ext4; moltfs and btrfs "
     "move it",
     same_value_of_ext4},
    {"special-file-times",
     "the kernel moves no times of a FUSE filesystem's fifos and devices when they are read or "
     "written",
     special_file_times},
    {"trusted-names",
     "names of trusted attributes are listed to root only, as on ext4 and xfs; btrfs lists them to "
     "all",
     trusted_names},
    {"whiteout-of-ext4",
     "ext4 touches the directory's times when a rename with a whiteout fails; moltfs and btrfs do "
     "not",
     whiteout_of_ext4},
    {"directory-links",
     "a directory has 2 links and one for each subdirectory, as on ext4 and xfs; btrfs says 1",
     directory_links},
};

}  // namespace

std::span<const Rule> rules() {
  return kRules;
}

bool is_left_out(const Call& call, Peer peer) {
  const std::string_view kind = call.kind->name;
  if (kind == "lseek" && (call.number(1) == SEEK_DATA || call.number(1) == SEEK_HOLE)) {
    // btrfs takes a negative offset as 0, others give ENXIO.
    return peer == Peer::btrfs && static_cast<int64_t>(call.number(0)) < 0;
  }
  // If there is a hole already, btrfs neither changes times nor clears set-id bits.
  return peer == Peer::btrfs && kind == "fallocate" && (call.number(0) & FALLOC_FL_PUNCH_HOLE) != 0;
}

const Rule* explanation_of(const Difference& difference, Peer peer) {
  for (const Rule& rule : kRules) {
    if (rule.explains(difference, peer)) return &rule;
  }
  return nullptr;
}

}  // namespace differ
