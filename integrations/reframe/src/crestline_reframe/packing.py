"""Many small tests as one job: a job array with an element for each, or one allocation that runs them in turn.

The scheduler sees one job. Each test has its own directory, output, exit code and result.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from crestline.model.time_limits import format_duration, parse_time_limit
from crestline_reframe.tracked_job import Pack, TrackedJob

EXIT_FILE = ".crestline-exit"
"""File in a stage directory with the exit status of a test that ran with others in one allocation."""

_OWN = re.compile(r"^#(?:SBATCH|PBS) +(?:--job-name|-J|-N|--output|-o|--error|-e|--time|-t)\b")
_TIME = re.compile(r"^#SBATCH --time=(\d+:\d+:\d+)$", re.MULTILINE)
_TIMED_OUT = 124
"""Exit status of timeout(1)."""


def packs(
    batch: Iterable[TrackedJob], kind: Literal["array", "allocation"], size: int
) -> tuple[list[Pack], list[TrackedJob]]:
    """Group tests with the same request to the scheduler. Return the groups, and the tests that cannot be grouped."""
    groups: dict[tuple[str, ...], list[TrackedJob]] = {}
    alone = []
    for tracked in batch:
        if tracked.is_packable:
            groups.setdefault(_demand(tracked.script), []).append(tracked)
        else:
            alone.append(tracked)
    found = []
    for group in groups.values():
        for begin in range(0, len(group), size):
            some = group[begin : begin + size]
            if len(some) > 1:
                found.append(Pack(some, kind))
            else:
                alone += some
    return found, alone


def pack_script(kind: str, scripts: list[str], directories: list[str], outputs: list[tuple[str, str]]) -> str:
    """Build the script of a group.

    Args:
        kind: `array` or `allocation`.
        scripts: scripts of the tests, as they would run alone on the system.
        directories: their stage directories there.
        outputs: names of the files in these for each test's standard output and error.
    """
    head = [line for line in scripts[0].split("\n") if line.startswith("#") and not _OWN.match(line)]
    lines = [head[0], *[line for line in head[1:] if line.startswith("#SBATCH")]]
    lines += ["#SBATCH --job-name=reframe-pack", "#SBATCH --output=/dev/null", "#SBATCH --error=/dev/null"]
    limits = [_seconds(script) for script in scripts]
    known = [limit for limit in limits if limit is not None]
    if kind == "array":
        lines.append(f"#SBATCH --array=0-{len(scripts) - 1}")
    if len(known) == len(limits) and known:
        lines.append(f"#SBATCH --time={format_duration(max(known) if kind == 'array' else sum(known) + 60)}")
    lines.append('case "$SLURM_ARRAY_TASK_ID" in' if kind == "array" else "crestline_all=$PWD")
    for number, (script, directory, names) in enumerate(zip(scripts, directories, outputs, strict=True)):
        out, err = (shlex.quote(f"{directory}/{name}") for name in names)
        end = "CRESTLINE_" + hashlib.sha256(script.encode()).hexdigest()[:16]
        shell = shlex.join(script.split("\n", 1)[0].removeprefix("#!").split() or ["/bin/bash"])
        if kind == "array":
            lines += [f"{number}) exec {shell} /dev/fd/9 9<<'{end}' >{out} 2>{err}", *script.split("\n"), end, ";;"]
        else:
            timed = f"timeout --kill-after=10 {limits[number]} " if limits[number] is not None else ""
            status = shlex.quote(f"{directory}/{EXIT_FILE}")
            lines += [f"{timed}{shell} /dev/fd/9 9<<'{end}' >{out} 2>{err}", *script.split("\n"), end]
            lines += [f"echo $? > {status}"]
    if kind == "array":
        lines.append("esac")
    return "\n".join([*lines, ""])


def verdict(directory: Path, script: str) -> tuple[int, str] | None:
    """Return exit status and state of a test in an allocation from its result file; None if it does not exist.

    Args:
        directory: the test's stage directory on this machine.
        script: the test's script.
    """
    try:
        status = int((directory / EXIT_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if status == _TIMED_OUT and _seconds(script) is not None:
        return status, "TIMEOUT"
    return status, "FAILED" if status else "COMPLETED"


def _demand(script: str) -> tuple[str, ...]:
    """Return the scheduler options of a script, except its names and its time."""
    lines = script.split("\n")
    wanted = [line for line in lines if line.startswith(("#SBATCH", "#PBS")) and not _OWN.match(line)]
    return (lines[0], *wanted)


def _seconds(script: str) -> int | None:
    match = _TIME.search(script)
    return parse_time_limit(match[1]) if match else None
