"""The batch scripts of transfer jobs. Clients search their logs for the messages that report success.

Paths are passed as the words in the script, with the same quotes as in a real server's script.
"""

from __future__ import annotations

_TRIES = 1440
_BLOCK = 1024 * 1024


def command(words: str, done: str, ends_well: bool, lists: bool = False) -> str:
    """Run one command. If it fails, write an error to the job's log, and still exit with 0 if `ends_well`.

    If it succeeds, write `done` to the log, followed by the command's output if `lists`.
    """
    return f"""
said=$({words})
if [ $? -eq 0 ]; then
    echo "$(date -u) Files were successfully {done}."
    {'echo "$said"' if lists else ""}
    exit 0
fi
echo "$(date -u) The files could not be {done}. $said" >&2
exit {0 if ends_well else 1}
"""


def fetch(stored: str, target: str, poll: float) -> str:
    """Poll for the object every `poll` seconds, then write the target and report the result."""
    return f"""
if [ -d {target} ]; then
    echo "$(date -u) The target is a directory" >&2
    exit 3
fi
for try in $(seq {_TRIES}); do
    if [ -f {stored} ]; then
        target_file={target}
        if [ -f "$target_file" ]; then rm "$target_file"; fi
        cat {stored} >> "$target_file"
        echo "$(date -u) File was successfully downloaded"
        exit 0
    fi
    sleep {poll}
done
"""


def offer(source: str, stored: str, parts: int, follow: str) -> str:
    """Store a file for its download URL in `parts` parts, whose number of blocks depends on its measured size."""
    return f"""
input_file={source}
parts={parts}
if [ ! -f "$input_file" ]; then
    echo file_not_found >&2
    exit 34
fi
size=$(stat {follow} -c %s "$input_file")
blocks=$(( ((size + parts - 1) / parts + {_BLOCK} - 1) / {_BLOCK} ))
part=$(dirname {stored})/.part
if head -c $((parts * blocks * {_BLOCK})) "$input_file" > "$part" && mv -- "$part" {stored}; then
    echo "[INFO] Multipart file upload successfully completed"
    exit 0
fi
exit 70
"""
