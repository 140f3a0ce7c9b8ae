# SPDX-License-Identifier: MIT
# For the tests that run `exercise`: processes in the background, each with a seed and a
# journal of its own. scripts/exercise sets EXERCISE_SEED, EXERCISE_OPS, EXERCISE_SECONDS to have them
# run longer, from seeds nobody has seen.
# shellcheck shell=bash disable=SC2154
exercise=${workload%/*}/exercise
seed=${EXERCISE_SEED:-1}
exercisers=()   # "KIND JOURNAL PID"

# _exercise KIND OPS [OPTION...]: starts one more exerciser; it ends after OPS operations, or by _stop_exercise.
_exercise() {
  local kind=$1 ops=${EXERCISE_OPS:-$2} journal
  shift 2
  journal=$dir/journal-$kind-$seed
  [ -d "$SCRATCH_MNT/$kind" ] || mkdir "$SCRATCH_MNT/$kind"
  echo "exercise $kind --seed $seed --ops $ops $*" >&2
  "$exercise" "$kind" "$SCRATCH_MNT/$kind" --seed "$seed" --ops "$ops" --journal "$journal" "$@" >&2 &
  exercisers+=("$kind $journal $!")
  load_pids+=($!)
  seed=$((seed + 1))
}
# Waits for all exercisers and prints what went wrong. With `kill` they are ended first.
_end_exercise() {   # [TERM|KILL]
  local item kind journal pid status wrong=0
  for item in "${exercisers[@]}"; do
    read -r kind journal pid <<<"$item"
    [ $# = 0 ] || kill -"$1" "$pid" 2>/dev/null
  done
  for item in "${exercisers[@]}"; do
    read -r kind journal pid <<<"$item"
    wait "$pid" 2>/dev/null
    status=$?
    case "${1-}$status" in 0 | TERM0 | KILL137 | KILL3 | KILL0) ;; *) wrong=$((wrong + 1)) ;; esac
  done
  load_pids=()
  [ $wrong = 0 ] || _fail "$wrong exercisers failed; their seeds are above"
}
# To be called after a crash and a new mount.
_verify_exercise() {
  local item kind journal pid
  for item in "${exercisers[@]}"; do
    read -r kind journal pid <<<"$item"
    "$exercise" "verify-$kind" "$SCRATCH_MNT/$kind" --journal "$journal" >&2 ||
      _fail "$kind: what was fsynced is not there"
  done
  exercisers=()
}
# _replace_until_done A B: replaces A by B and B by A, as long as exercisers run. The current device
# is in `current`.
_replace_until_done() {
  local other=$2 item running=yes
  current=$1
  while [ $running = yes ]; do
    _replace --force --wait 1 "$other" || _fail "replace failed"
    item=$current current=$other other=$item
    replaced=$((${replaced:-0} + 1))
    running=no
    for item in "${exercisers[@]}"; do kill -0 "${item##* }" 2>/dev/null && running=yes; done
  done
}
