# SPDX-License-Identifier: MIT
# Shared by scripts/demo, scripts/test and scripts/bench: packages, building, a private directory
# that is cleaned up whatever happens. Source it; it sets `root_dir`.
# shellcheck shell=bash

export PATH  # without one in the environment bash has its own, but cmake finds itself by it

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 2; }

# Runs a command as root, if necessary through sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# Packages needed for building, and for running.
build_packages=(g++ cmake ninja-build pkg-config libfuse3-dev libboost1.81-dev libfmt-dev
  libxxhash-dev liburing-dev libcli11-dev libblkid-dev)
run_packages=(fuse3 util-linux coreutils)
test_packages=(catch2 libboost-context1.81-dev attr acl e2fsprogs btrfs-progs rsync git sqlite3
  python3 fio procps spin gcc patch make postmark dbench qemu-utils stress-ng zstd
  xfsprogs clang-format-14 clang-tidy-14)
# Peers of scripts/bench; those that cannot be installed are skipped.
bench_packages=(python3 util-linux tar)
peer_packages=(e2fsprogs btrfs-progs fuse2fs zfs-fuse qemu-system-common qemu-utils)

# Debian releases after 12 carry other versions of Boost.
package_available() { apt-cache show "$1" >/dev/null 2>&1; }

# Installs those of the given packages that are missing, without questions.
need_packages() {
  local missing=() package
  for package in "$@"; do
    if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed'; then
      missing+=("$package")
    fi
  done
  [ ${#missing[@]} = 0 ] && return 0
  if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
    die "these packages are missing; install them as root first: ${missing[*]}"
  fi
  say "installing: ${missing[*]}"
  as_root apt-get -qq update || die "apt-get update failed"
  local wanted=()
  for package in "${missing[@]}"; do
    if ! package_available "$package"; then
      case $package in
        libboost1.81-dev) package=libboost-dev ;;
        libboost-context1.81-dev) package=libboost-context-dev ;;
      esac
    fi
    wanted+=("$package")
  done
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends \
    "${wanted[@]}" </dev/null >/dev/null || die "could not install: ${wanted[*]}"
}

# build PRESET [CMAKE OPTION...]: configures and builds; prints only what matters.
build() {
  local preset=$1 log
  shift
  case $preset in clang*) need_packages clang-14 libclang-rt-14-dev ;; esac
  log=$root_dir/build/$preset.log
  mkdir -p "$root_dir/build"
  (cd "$root_dir" && cmake --preset "$preset" "$@" &&
    cmake --build --preset "$preset" ${build_target:+--target "$build_target"}) \
    >"$log" 2>&1 </dev/null || {
    grep -E -A8 'error|Error|FAILED' "$log" | head -60 >&2
    die "the build failed; the whole log is in $log"
  }
}

# --- A private directory; everything is undone at the end, also after Ctrl-C.
# cleanup_mount, cleanup_loop, cleanup_process remember what is to be undone.
cleanup_mounts=() cleanup_loops=() cleanup_processes=() cleanup_dirs=()

cleanup() {
  local status=$? item
  trap '' INT TERM HUP
  for item in "${cleanup_processes[@]}"; do kill "$item" 2>/dev/null; done
  for item in "${cleanup_processes[@]}"; do wait "$item" 2>/dev/null; done
  for item in "${cleanup_mounts[@]}"; do unmount_quietly "$item"; done
  for item in "${cleanup_loops[@]}"; do losetup -d "$item" 2>/dev/null; done
  for item in "${cleanup_dirs[@]}"; do rm -rf "$item"; done
  exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

is_mounted() { findmnt -rn -M "$1" >/dev/null 2>&1; }

# The processes that serve a mount point. Daemons end by themselves after the unmount; after ten seconds
# they are killed.
unmount_quietly() {
  local mount_point=$1 pid
  pid=$(daemon_pid "$mount_point")
  is_mounted "$mount_point" || { [ -z "$pid" ] && return 0; }
  "${moltfs:-moltfs}" umount "$mount_point" >/dev/null 2>&1 ||
    umount -l "$mount_point" 2>/dev/null || fusermount3 -uz "$mount_point" 2>/dev/null
  [ -n "$pid" ] || return 0
  for _ in $(seq 100); do
    kill -0 "$pid" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null
}

# daemon_pid MOUNTPOINT: prints the moltfs process that serves it, found by its command line.
daemon_pid() {
  local file words
  for file in /proc/[0-9]*/cmdline; do
    mapfile -d '' -t words 2>/dev/null <"$file" || continue
    case ${words[0]-} in *moltfs*) ;; *) continue ;; esac
    case " ${words[*]:1} " in *" $1 "*) file=${file#/proc/}; say "${file%/cmdline}"; return ;; esac
  done
}

# private_dir: sets `dir` to a fresh directory that goes away at the end.
# MOLTFS_TMPDIR chooses where; image files in it need room.
private_dir() {
  dir=$(mktemp -d "${MOLTFS_TMPDIR:-${TMPDIR:-/tmp}}/moltfs.XXXXXX") || die "no private directory"
  cleanup_dirs+=("$dir")
}
