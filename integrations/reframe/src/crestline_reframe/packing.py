"""Many small tests as one job: a job array with an element for each, or one allocation that runs them in turn.

The scheduler then sees one job; each test still has its own directory, output, exit code and result.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from crestline_reframe.work import Work

EXIT_FILE = ".crestline-exit"
"""in a stage directory: the exit status of a test that ran with others in one allocation"""

_OWN = re.compile(r"^#(?:SBATCH|PBS) +(?:--job-name|-J|-N|--output|-o|--error|-e|--time|-t)\b")
_TIME = re.compile(r"^#SBATCH --time=(\d+):(\d+):(\d+)$", re.MULTILINE)
_TIMED_OUT = 124
"""exit status of timeout(1)"""


@dataclass(eq=False)
class Pack:
    """Tests that are one job."""

    works: list[Work]
    kind: str
    job_id: str = field(default="")

    @property
    def is_unwanted(self) -> bool:
        """Whether no test in it is waited for any more."""
        return all(work.is_cancelled or work.ended.is_set() for work in self.works)

    def element(self, work: Work) -> str:
        """The job id that says how this test is."""
        return f"{self.job_id}_{self.works.index(work)}" if self.kind == "array" else self.job_id


def packs(works: Iterable[Work], kind: str, size: int) -> tuple[list[Pack], list[Work]]:
    """Tests that ask the scheduler for the same go together; those that cannot are returned second."""
    groups: dict[tuple[str, ...], list[Work]] = {}
    alone = []
    for work in works:
        if work.is_packable:
            groups.setdefault(_demand(work.script), []).append(work)
        else:
            alone.append(work)
    found = []
    for group in groups.values():
        for begin in range(0, len(group), size):
            some = group[begin : begin + size]
            if len(some) > 1:
                found.append(Pack(some, kind))
            else:
                alone += some
    return found, alone


def pack_script(pack: Pack, scripts: list[str], directories: list[str]) -> str:
    """The one script.

    Args:
        scripts, directories: of the tests, as they would run alone on the system.
    """
    head = [line for line in scripts[0].split("\n") if line.startswith("#") and not _OWN.match(line)]
    lines = [head[0], *[line for line in head[1:] if line.startswith("#SBATCH")]]
    lines += ["#SBATCH --job-name=reframe-pack", "#SBATCH --output=/dev/null", "#SBATCH --error=/dev/null"]
    limits = [_seconds(script) for script in scripts]
    known = [limit for limit in limits if limit is not None]
    if pack.kind == "array":
        lines.append(f"#SBATCH --array=0-{len(scripts) - 1}")
    if len(known) == len(limits) and known:
        total = max(known) if pack.kind == "array" else sum(known) + 60
        lines.append(f"#SBATCH --time={total // 3600}:{total // 60 % 60}:{total % 60}")
    lines.append('case "$SLURM_ARRAY_TASK_ID" in' if pack.kind == "array" else "crestline_all=$PWD")
    for number, (work, script, directory) in enumerate(zip(pack.works, scripts, directories, strict=True)):
        out, err = (shlex.quote(f"{directory}/{name}") for name in work.outputs[:2])
        end = "CRESTLINE_" + hashlib.sha256(script.encode()).hexdigest()[:16]
        shell = shlex.join(script.split("\n", 1)[0].removeprefix("#!").split() or ["/bin/bash"])
        if pack.kind == "array":
            lines += [f"{number}) exec {shell} /dev/fd/9 9<<'{end}' >{out} 2>{err}", *script.split("\n"), end, ";;"]
        else:
            timed = f"timeout --kill-after=10 {limits[number]} " if limits[number] is not None else ""
            status = shlex.quote(f"{directory}/{EXIT_FILE}")
            lines += [f"{timed}{shell} /dev/fd/9 9<<'{end}' >{out} 2>{err}", *script.split("\n"), end]
            lines += [f"echo $? > {status}"]
    if pack.kind == "array":
        lines.append("esac")
    return "\n".join([*lines, ""])


def verdict(work: Work) -> tuple[int, str] | None:
    """Exit status and state of a test out of an allocation, of the file that it left; None if it left none."""
    try:
        status = int((work.place.local / EXIT_FILE).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if status == _TIMED_OUT and _seconds(work.script) is not None:
        return status, "TIMEOUT"
    return status, "FAILED" if status else "COMPLETED"


def _demand(script: str) -> tuple[str, ...]:
    """What a script asks of the scheduler, but for its names and its time."""
    lines = script.split("\n")
    wanted = [line for line in lines if line.startswith(("#SBATCH", "#PBS")) and not _OWN.match(line)]
    return (lines[0], *wanted)


def _seconds(script: str) -> int | None:
    match = _TIME.search(script)
    return int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3]) if match else None
