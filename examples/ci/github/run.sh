#!/bin/bash
# GitHub signals the step's first process alone: every command here is replaced by the next.
set -eu
options=(--key "$KEY" --upload "$UPLOAD" --output-dir "$OUTPUT_DIR" --nodes "$NODES" --time "$TIME" --script "$SCRIPT")
[ -z "$COLLECT" ] || options+=(--collect "$COLLECT")
[ -z "$JUNIT" ] || options+=(--junit "$JUNIT")
[ -z "$ACCOUNT" ] || options+=(--account "$ACCOUNT")
[ -z "$PARTITION" ] || options+=(--partition "$PARTITION")
exec crestline run "${options[@]}"
