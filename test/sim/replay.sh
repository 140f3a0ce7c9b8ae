#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Checks that a failure is shrunk and that the printed command repeats it.
#
#   replay.sh SIMULATOR      a simulator whose lives fail soon: that of a mutant
set -u
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
die() { echo "$*" >&2; cat "$work"/* >&2; exit 1; }

# A life that fails before its first operation cannot be shrunk: then others are tried.
limit=0
for first in $(seq 1 50 1001); do
  "$1" --first "$first" --seeds 300 --jobs 1 >"$work/first" 2>/dev/null && die "no life failed"
  failure=$(sed -n 's/^seed [0-9]* FAILED: //p' "$work/first")
  read -ra command < <(sed -n 's/^ *replay: //p' "$work/first")
  [ -n "$failure" ] && [ "${command[0]}" = "$1" ] || die "no command to repeat it was printed"
  [[ ${command[*]} =~ --limit\ ([0-9]+) ]] || die "it was not shrunk"
  limit=${BASH_REMATCH[1]}
  [ "$limit" -gt 0 ] && break
done
[ "$limit" -gt 0 ] || die "all lives fail before their first operation"

"${command[@]}" >"$work/again" 2>/dev/null && die "the printed command does not fail"
grep -qF "FAILED: " "$work/again" || die "the printed command reports no failure"
"${command[@]}" >"$work/once_more" 2>/dev/null
cmp "$work/again" "$work/once_more" || die "the same command gave two different lives"
"$1" "${command[@]:1:2}" --limit $((limit - 1)) >"$work/shorter" 2>/dev/null ||
  die "a shorter prefix fails as well"
echo "replayed with $limit operations: $failure"
