#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Includes point downward only: alloc/base <- alloc/device <- alloc <- replace, fs/tree <- fs <-
# fs/fuse <- fs/daemon <- fs/tool; libfuse only in fs/fuse; no test code in the product.
set -u
cd "$(dirname "$0")/.." || exit 2
bad=0
# forbid FOLDER PATTERN: no source directly in FOLDER (its tests aside) includes PATTERN.
forbid() {
  local found
  found=$(find "$1" -maxdepth 1 \( -name '*.h' -o -name '*.cc' \) ! -name '*_test.cc' \
    ! -name '*_test_util.*' ! -name '*_fixture.*' -exec grep -HnE "^#include [\"<]($2)" {} +)
  [ -z "$found" ] && return
  printf '%s must not include %s:\n%s\n' "$1" "$2" "$found"
  bad=1
}
forbid alloc/base 'alloc/device|alloc/[a-z_]*\.h|replace/|fs/|test/'
forbid alloc/device 'alloc/[a-z_]*\.h|replace/|fs/|test/'
forbid alloc 'replace/|fs/|test/'
forbid replace 'fs/|test/'
forbid fs/tree 'replace/|fs/[a-z_]*\.h|fs/(fuse|daemon|tool)/|test/'
forbid fs 'fs/(fuse|daemon|tool)/|test/'
forbid fs/fuse 'fs/(daemon|tool)/|test/'
forbid fs/daemon 'fs/tool/|test/'
for folder in alloc/base alloc/device alloc replace fs/tree fs fs/daemon fs/tool; do
  forbid "$folder" 'fuse_|fuse3/|fuse\.h|fuse_lowlevel'
done
[ $bad = 0 ] && echo "all includes point downward"
exit $bad
