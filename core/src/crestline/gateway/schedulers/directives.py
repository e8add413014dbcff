"""`#SBATCH` lines (sbatch(1)): the formats of their values, and the lines for jobs of the IRI API."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from datetime import datetime, timedelta

from crestline.model import InvalidRequestError
from crestline.model.sbatch import parse_count, truncated_repr
from crestline.wire.iri import AttributesRequest, JobRequest, ResourcesRequest

MAX_ARRAY_INDEX = 4_000_000
"""Largest index of a job array, as Slurm's MaxArraySize."""
MAX_ARRAY_TASKS = 10_000
"""Maximum number of tasks of a job array."""
_OPTION = re.compile(r"[a-z][a-z0-9-]{0,63}")
_VALUE = re.compile(r"[^\x00-\x1f\x7f'\"\\#]{0,4096}")


@dataclass(frozen=True)
class Array:
    """The tasks of a job array.

    Attributes:
        tasks: the indexes, ascending.
        step: step of the range as written, otherwise 1.
        at_once: maximum number of tasks that run at the same time; None: unlimited.
    """

    tasks: tuple[int, ...]
    step: int = 1
    at_once: int | None = None


def parse_array(text: str) -> Array:
    """Parse `0-3`, `1,4,9`, `0-10:2` or a list of these, with an optional `%2` at the end.

    Raises:
        InvalidRequestError: invalid format, or more tasks than `MAX_ARRAY_TASKS`.
    """
    listed, percent, limit = text.partition("%")
    tasks: set[int] = set()
    steps: set[int] = set()
    for part in listed.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?", part, re.ASCII)
        if match is None:
            raise InvalidRequestError(
                f"{truncated_repr(text)} is not a job array.", hint="Write for example 0-9, 1,4,9 or 0-9:2%4."
            )
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1 or last > MAX_ARRAY_INDEX or len(range(first, last + 1, step)) > MAX_ARRAY_TASKS:
            raise InvalidRequestError(
                f"The job array {truncated_repr(text)} is empty or too large.",
                hint=f"Use ascending ranges of at most {MAX_ARRAY_TASKS} tasks, indexes up to {MAX_ARRAY_INDEX}.",
            )
        tasks.update(range(first, last + 1, step))
        steps.add(step)
        if len(tasks) > MAX_ARRAY_TASKS:
            raise InvalidRequestError(
                f"The job array {truncated_repr(text)} has more than {MAX_ARRAY_TASKS} tasks.",
                hint="Submit several arrays.",
            )
    at_once = parse_count(limit, "array") if percent else None
    return Array(tuple(sorted(tasks)), steps.pop() if len(steps) == 1 else 1, at_once)


_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}


def parse_begin(text: str, now: datetime) -> datetime:
    """Parse the earliest start in `--begin`, in local time.

    Formats: `now`, `now+60`, `now+2hours`, `16:00[:00]` (the next one), `YYYY-MM-DD[THH:MM[:SS]]`, `today`, `tomorrow`,
    `midnight`, `noon`.

    Raises:
        InvalidRequestError: invalid format.
    """
    try:
        then = _moment(text.lower(), now)
        if then is not None and then <= now + timedelta(days=3660):
            return max(then, now)
    except (ValueError, OverflowError):
        pass  # such as a 25th hour or a 31st of June: refused like any other text
    raise InvalidRequestError(
        f"{truncated_repr(text)} is not a time to begin.",
        hint="Write for example now+1hour, 16:00 or 2027-01-20T12:30:00.",
    )


def _moment(word: str, now: datetime) -> datetime | None:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if match := re.fullmatch(r"now(?:\+(\d{1,9})(?:(second|minute|hour|day|week)s?)?)?", word, re.ASCII):
        return now + timedelta(seconds=int(match[1] or 0) * _UNITS[match[2] or "second"])
    named = {"today": now, "tomorrow": now + timedelta(days=1), "midnight": midnight + timedelta(days=1)}
    if word in named:
        return named[word]
    if match := re.fullmatch(r"(\d{1,2}):(\d\d)(?::(\d\d))?", "12:00" if word == "noon" else word, re.ASCII):
        hour, minute, second = (int(part or 0) for part in match.groups())
        then = midnight.replace(hour=hour, minute=minute, second=second)
        return then if then >= now else then + timedelta(days=1)
    if re.fullmatch(r"\d{4}-\d\d-\d\d(t\d\d:\d\d(:\d\d)?)?", word, re.ASCII):
        return datetime.fromisoformat(word.upper())
    return None


def sbatch_lines(job: JobRequest) -> list[str]:
    """Return the `#SBATCH` lines for a job of the IRI API, as `Scheduler.directives`."""
    attributes = job.attributes or AttributesRequest()
    wanted = job.resources or ResourcesRequest(exclusive_node_use=False)
    options: dict[str, object] = {
        "nodes": wanted.node_count,
        "ntasks": wanted.process_count,
        "ntasks-per-node": wanted.processes_per_node,
        "cpus-per-task": wanted.cpu_cores_per_process,
        "gpus-per-task": wanted.gpu_cores_per_process,
        "mem": f"{mebibytes(wanted.memory)}M" if wanted.memory else None,
        "time": None if (seconds := attributes.duration) is None else f"{seconds // 60}:{seconds % 60:02d}",
        "export": None if job.inherit_environment else "NONE",
    }
    lines = [f"#SBATCH --{name}={value}" for name, value in options.items() if value is not None]
    lines += ["#SBATCH --exclusive"] if wanted.exclusive_node_use else []
    for name, value in attributes.custom_attributes.items():
        if not _OPTION.fullmatch(name):
            raise InvalidRequestError(
                f"Invalid custom attribute: {name[:80]!r}.",
                hint="Name an option of sbatch without its dashes, for example constraint.",
            )
        lines.append(f"#SBATCH --{name}{'=' + shlex.quote(plain_value(name, value)) if value else ''}")
    return lines


def plain_value(name: str, value: str) -> str:
    """Return the value of a custom attribute if it remains one value on a directive's line.

    Raises:
        InvalidRequestError: it does not.
    """
    if not _VALUE.fullmatch(value):
        raise InvalidRequestError(
            f"Invalid value of the custom attribute {name}.",
            hint="Leave out quotation marks, backslashes, # and control characters.",
        )
    return value


def mebibytes(count: int) -> int:
    """Convert bytes to mebibytes, rounded up."""
    return -(-count // 1024**2)
