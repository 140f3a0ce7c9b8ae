#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Verifies the model with spin, exhaustively, and checks that each weakening has a counterexample.
#
#   verify.sh [holds | weakened]      both by default; about a minute in all
set -u
here=$(cd "$(dirname "$0")" && pwd)
command -v spin >/dev/null || { echo "needs spin"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
failed=0

# check EXPECTED NAME OPTIONS...: EXPECTED is "holds" or "fails".
check() {
  local expected=$1 name=$2 verdict states optimize=-O2
  [ "$expected" = fails ] && optimize=-O0  # the search is short: optimizing takes longer than it saves
  shift 2
  rm -f pan* ./*.trail
  spin -a "$@" "$here/replace.pml" >spin.log 2>&1 && gcc $optimize -w -DSAFETY -DCOLLAPSE -o pan pan.c &&
    timeout 250 ./pan -E -m800000 >pan.log 2>&1
  states=$(sed -n 's/^ *\([0-9]*\) states, stored.*/\1/p' pan.log)
  if grep -q 'assertion violated' pan.log; then verdict=fails
  elif grep -q 'errors: 0' pan.log && ! grep -q 'Search not completed\|max search depth' pan.log; then verdict=holds
  else verdict="was not decided"; fi
  printf '%-44s %s (%s states)\n' "$name" "$verdict" "${states:-?}"
  [ "$verdict" = "$expected" ] || { printf '  EXPECTED: %s\n' "$expected"; failed=1; }
}

if [ "${1:-holds}" = holds ]; then
  check holds "no disturbance" -DCRASHES=0 -DFAULTS=0 -DWRITES=3 -DCOMMITS=4
  check holds "one power cut" -DCRASHES=1 -DFAULTS=0 -DWRITES=1 -DCOMMITS=5
  check holds "one failure of the target" -DCRASHES=0 -DFAULTS=1 -DWRITES=1 -DCOMMITS=5
fi
if [ "${1:-weakened}" = weakened ]; then
  check fails "duplicate only left of the cursor" -DCRASHES=0 -DFAULTS=0 -DWRITES=3 -DCOMMITS=4 -DCURSOR_RULE
  check fails "no freeze" -DCRASHES=0 -DFAULTS=0 -DWRITES=3 -DCOMMITS=5 -DNO_FREEZE
  check fails "G0 before the drain" -DCRASHES=0 -DFAULTS=0 -DWRITES=2 -DCOMMITS=5 -DG0_BEFORE_DRAIN
  check fails "guard released before the record is in" -DCRASHES=0 -DFAULTS=0 -DWRITES=2 -DCOMMITS=5 -DGUARD_EARLY
  check fails "no flush of the target" -DCRASHES=1 -DFAULTS=0 -DWRITES=2 -DCOMMITS=5 -DNO_FLUSH
  check fails "the broken generation counts as covered" -DCRASHES=0 -DFAULTS=1 -DWRITES=2 -DCOMMITS=6 -DBROKEN_COUNTS
fi
exit $failed
