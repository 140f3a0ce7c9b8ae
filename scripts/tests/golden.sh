# SPDX-License-Identifier: MIT
# For the tests of golden images (test/golden): volumes made by an old version of moltfs.
# shellcheck shell=bash disable=SC2154
golden=$test_dir/../../test/golden

# _unpack NAME: the devices of the image NAME are a.img, b.img ... in $dir.
_unpack() {
  _require_command zstd
  zstd -qdc --long=27 "$golden/$1.tar.zst" | tar -C "$dir" --sparse -xf - || _fail "cannot unpack $1"
  manifest=$golden/$1.json
}
# _compare WHEN: compares the mounted files with the manifest; prints differences.
_compare() { printf '%s: ' "$1"; python3 -B "$golden/manifest.py" check "$SCRATCH_MNT" "$manifest"; }
# _use: writes new files and removes old ones.
_use() {
  mkdir "$SCRATCH_MNT/new"
  _tree "$SCRATCH_MNT/new" 100
  _hashes "$SCRATCH_MNT/new" >"$dir/new"
  rm -rf "$SCRATCH_MNT/many"
}
# _compare_new: compares what _use wrote.
_compare_new() { _hashes "$SCRATCH_MNT/new" | diff - "$dir/new" && echo "new files: the same after a remount"; }

# _try DEVICE...: checks the volume, compares it with the manifest in a read-only and in a writable
# mount, and uses it.
_try() {
  local options=noatime device
  for device in "${@:2}"; do options+=,device=$device; done
  _check "$@"
  echo "check: no errors"
  _mount -o "ro,$options" "$1"
  _compare "mounted read-only"
  _unmount
  _mount -o "$options" "$1"
  _compare "mounted"
  _use
  _unmount
  _check "$@"
  _mount -o "$options" "$1"
  mounted_devices=("$@")
  _compare_new
}
