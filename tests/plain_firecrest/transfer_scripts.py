"""The batch scripts of transfer jobs. Clients search their logs for the sentences that say it went well."""

from __future__ import annotations

_HEAD = """#!/bin/bash
#SBATCH --nodes=1
#SBATCH --time=0-00:15:00
"""
_TRIES = 1440


def command(words: str, done: str, ends_well: bool) -> str:
    """Run one command. If it fails, the job says so in its error log, and still exits with 0 if `ends_well`."""
    return f"""{_HEAD}
if {words}; then
    echo "$(date -u) Files were successfully {done}."
    exit 0
fi
echo "$(date -u) The files could not be {done}." >&2
exit {0 if ends_well else 1}
"""


def fetch(stored: str, target: str, poll: float) -> str:
    """Look for the object every `poll` seconds; once it is there, put it in the place of the target."""
    return f"""{_HEAD}
for try in $(seq {_TRIES}); do
    if [ -f {stored} ]; then
        if rm -f -- {target} && cp -- {stored} {target}; then
            echo "$(date -u) File was successfully downloaded"
            exit 0
        fi
        echo "$(date -u) The file could not be written" >&2
        exit 2
    fi
    sleep {poll}
done
"""


def offer(source: str, stored: str) -> str:
    """Put a file where its download URL finds it."""
    return f"""{_HEAD}
if [ ! -f {source} ]; then
    echo file_not_found >&2
    exit 34
fi
if cp -- {source} {stored}.part && mv -- {stored}.part {stored}; then
    echo "[INFO] Multipart file upload successfully completed"
    exit 0
fi
exit 70
"""
