#!/bin/sh
# What ci_script.py does, with the output while the job runs, its own exit code, and no second job when it is repeated.
crestline doctor || exit
exec crestline run --key "${CI_JOB_ID:-$(date +%s)-$$}" --script "$1"
