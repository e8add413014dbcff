#!/bin/sh
# Runs one task of a job, and leaves in its directory: claim, start, end. Heeds: cancel.
task=$1 script=$2 cwd=$3 in=$4 out=$5 err=$6 limit=$7

put() { printf '%s\n' "$2" >"$task/.$1.$$" && mv "$task/.$1.$$" "$task/$1"; }

# One HyperQueue job runs the task, also if the gateway handed it over twice; one whose machine was lost runs it again.
ln -s "$HQ_JOB_ID" "$task/claim" 2>/dev/null || [ "$(readlink "$task/claim")" = "$HQ_JOB_ID" ] || exit 0
[ -e "$task/end" ] && exit 0
if [ -e "$task/cancel" ]; then
  put end "$(date +%s) CANCELLED 0 0"
  exit 0
fi
put start "$(date +%s) $(uname -n)"
if ! cd "$cwd" || ! : <"$in" || ! : >"$out" || ! : >>"$err"; then
  put end "$(date +%s) FAILED 1 0"
  exit 0
fi

setsid "$script" <"$in" >>"$out" 2>>"$err" &
child=$!
trap 'kill -TERM "-$child"' TERM INT
(
  left=$limit
  while kill -0 "$child" 2>/dev/null; do
    verdict=
    [ -e "$task/cancel" ] && verdict=CANCELLED
    [ "$limit" -gt 0 ] && [ "$left" -le 0 ] && verdict=TIMEOUT
    if [ -n "$verdict" ]; then
      put verdict "$verdict"
      kill -TERM "-$child"
      sleep 5
      kill -KILL "-$child"
      exit
    fi
    left=$((left - 1))
    sleep 1
  done
) 2>/dev/null &
watcher=$!
wait "$child"
status=$?
kill "$watcher" 2>/dev/null
kill -KILL "-$child" 2>/dev/null

signal=0
[ "$status" -gt 128 ] && signal=$((status - 128)) && status=0
if [ -e "$task/verdict" ]; then
  state=$(cat "$task/verdict")
elif [ "$status" -eq 0 ] && [ "$signal" -eq 0 ]; then
  state=COMPLETED
else
  state=FAILED
fi
put end "$(date +%s) $state $status $signal"
