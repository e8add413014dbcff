"""The state of the stand-in server, and what all its programs do."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DIRECTORY = Path(os.environ["PBS_STAND_IN"])
SERVER = "pbs-server"
USER = os.environ.get("PBS_STAND_IN_USER") or getpass.getuser()


def begin(program: str) -> None:
    """What may go wrong before a program does anything."""
    if (DIRECTORY / "hang").exists():
        time.sleep(3600)
    if (DIRECTORY / "down").exists():
        fail(program, f"cannot connect to server {SERVER} (errno=15010)", 255, head="Connection refused\n")


def fail(program: str, words: str, status: int, head: str = "") -> None:
    sys.stderr.write(f"{head}{program}: {words}\n")
    raise SystemExit(status)


@contextmanager
def jobs() -> Iterator[dict[str, Any]]:
    """All jobs, by id; changes are kept."""
    with (DIRECTORY / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = DIRECTORY / "jobs.json"
        found = json.loads(file.read_text()) if file.exists() else {}
        yield found
        file.write_text(json.dumps(found))


def clock(seconds: float | None = None) -> str:
    """As ctime(3) says it, in the zone of the program's environment."""
    time.tzset()
    return time.strftime("%a %b %d %H:%M:%S %Y", time.localtime(seconds))


def printed(value: Any, depth: int = 0) -> str:
    """JSON as qstat prints it: what looks like a number stands bare, and nothing in a text is escaped but quotes."""
    margin = "    " * (depth + 1)
    if isinstance(value, dict):
        lines = [f'{margin}"{key}":{printed(each, depth + 1)}' for key, each in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + "    " * depth + "}"
    if isinstance(value, list):
        return "[" + ",".join(printed(each, depth + 1) for each in value) + "]"
    text = str(value)
    try:
        float(text)
        return text
    except ValueError:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def answer(part: str, objects: dict[str, Any]) -> None:
    head = {"timestamp": int(time.time()), "pbs_version": "22.05.11", "pbs_server": SERVER}
    sys.stdout.write(printed(head | ({part: objects} if objects else {})) + "\n")
