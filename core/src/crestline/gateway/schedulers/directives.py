"""What a batch script asks of sbatch: its `#SBATCH` lines, and the notations of their values (sbatch(1))."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from crestline.model import InvalidRequestError

# sbatch(1), by what follows the option: a value, a value only after `=`, nothing. Short names follow their long ones.
_VALUE = """
    account A, acctg-freq, array a, batch, bb, bbf, begin b, chdir D, cluster-constraint, clusters M, comment,
    constraint C, container, container-id, core-spec S, cores-per-socket, cpu-freq, cpus-per-gpu, cpus-per-task c,
    deadline, delay-boot,
    dependency d, distribution m, error e, exclude x, export, export-file, extra, extra-node-info B, gid, gpu-bind,
    gpu-freq, gpus G, gpus-per-node, gpus-per-socket, gpus-per-task, gres, gres-flags, hint, input i, job-name J,
    kill-on-invalid-dep, licenses L, mail-type, mail-user, mcs-label, mem, mem-bind, mem-per-cpu, mem-per-gpu, mincpus,
    network, nodefile F, nodelist w, nodes N, ntasks n, ntasks-per-core, ntasks-per-gpu, ntasks-per-node,
    ntasks-per-socket, open-mode, output o, partition p, power, prefer, priority, profile, qos q, reservation,
    segment, signal, sockets-per-node, switches, thread-spec, threads-per-core, time t, time-min, tmp, tres-bind,
    tres-per-task, uid, wait-all-nodes, wckey, wrap
"""
_OPTIONAL = "exclusive, get-user-env, nice, no-kill k, propagate"
_FLAG = """
    contiguous, hold H, ignore-pbs, no-requeue, overcommit O, oversubscribe s, parsable, quiet Q, reboot, requeue,
    spread-job, test-only, use-min-nodes, verbose v, wait W
"""

MAX_ARRAY_INDEX = 4_000_000
"""largest index of a job array, as in Slurm's MaxArraySize"""
MAX_ARRAY_TASKS = 10_000
"""largest number of tasks of one job array"""


def _names(text: str) -> list[list[str]]:
    return [part.split() for part in text.split(",")]


_KIND = {
    names[0]: kind
    for kind, text in (("value", _VALUE), ("optional", _OPTIONAL), ("flag", _FLAG))
    for names in _names(text)
}
_LONG = {names[1]: names[0] for text in (_VALUE, _OPTIONAL, _FLAG) for names in _names(text) if len(names) > 1}


@dataclass(frozen=True)
class Directives:
    """The options of a script's `#SBATCH` lines.

    Attributes:
        options: long option name -> value, `""` for one without; of two the last holds, as for sbatch.
        unknown: words that are no option of sbatch, as they stand in the script.
    """

    options: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def parse_directives(script: str) -> Directives:
    """Read the `#SBATCH` lines before the first command; `#PBS` lines are comments.

    Raises:
        InvalidRequestError: a quotation is not closed, or an option lacks its value.
    """
    options: dict[str, str] = {}
    unknown: list[str] = []
    for line in script.split("\n"):
        if re.match(r"#SBATCH(\s|$)", line):
            try:
                words = shlex.split(line.removeprefix("#SBATCH"), comments=True)
            except ValueError as error:
                raise InvalidRequestError(
                    f"The line {_short(line)} cannot be read: {error}.", hint="Close the quotation."
                ) from error
            if words[:1] == ["hetjob"]:  # what follows belongs to another component
                unknown.append("hetjob")
                break
            _read(words, options, unknown)
        elif line.strip() and not line.startswith("#"):
            break
    return Directives(options, tuple(unknown))


def _read(words: list[str], options: dict[str, str], unknown: list[str]) -> None:
    rest = iter(words)
    for word in rest:
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            given = bool(equals)
        elif word.startswith("-") and len(word) > 1:
            name, value = _LONG.get(word[1], ""), word[2:].removeprefix("=")
            given = bool(value)
        else:
            unknown.append(word)
            continue
        kind = _KIND.get(name)
        if kind is None:
            unknown.append(word)
        elif kind == "value" and not given:
            following = next(rest, None)
            if following is None:
                raise InvalidRequestError(
                    f"The option {_short(word)} of an #SBATCH line lacks its value.", hint=f"Write `{word}=value`."
                )
            options[name] = following
        else:
            options[name] = value


def parse_time(text: str) -> int | None:
    """A time limit in seconds, None for no limit.

    Formats: `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes`,
    `days-hours:minutes:seconds`; `0`, `UNLIMITED`, `INFINITE`.

    Raises:
        InvalidRequestError: none of these.
    """
    if text.upper() in ("UNLIMITED", "INFINITE", "-1"):
        return None
    match = re.fullmatch(r"(?:(\d{1,6})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?", text, re.ASCII)
    if match is None:
        raise InvalidRequestError(
            f"{_short(text)} is no time limit.",
            hint="Write minutes, minutes:seconds, [days-]hours:minutes:seconds, days-hours or days-hours:minutes.",
        )
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds or None
    hours, minutes, seconds = {1: (0, *numbers, 0), 2: (0, *numbers), 3: tuple(numbers)}[len(numbers)]
    return (hours * 60 + minutes) * 60 + seconds or None


def parse_memory(text: str) -> int:
    """An amount of memory in MiB: `4G`, `500M`, `1T`, `2048K` (rounded up), without unit MiB.

    Raises:
        InvalidRequestError: not of that form.
    """
    match = re.fullmatch(r"(\d{1,12})([KMGT]?)B?", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise InvalidRequestError(f"{_short(text)} is no amount of memory.", hint="Write for example 4G or 500M.")
    number, unit = int(match[1]), match[2].upper()
    if unit == "K":
        return -(-number // 1024)
    return number * {"": 1, "M": 1, "G": 1024, "T": 1024 * 1024}[unit]


def parse_count(text: str, option: str) -> int:
    """A positive number, as `--ntasks` takes it.

    Raises:
        InvalidRequestError: not a number from 1.
    """
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or int(text) < 1:
        raise InvalidRequestError(f"--{option}={_short(text)} is no count.", hint="Give a whole number from 1.")
    return int(text)


def parse_nodes(text: str) -> tuple[int, int]:
    """Least and most nodes: `4` or `2-4`.

    Raises:
        InvalidRequestError: not of that form.
    """
    least, dash, most = text.partition("-")
    low = parse_count(least, "nodes")
    high = parse_count(most, "nodes") if dash else low
    if high < low:
        raise InvalidRequestError(f"--nodes={_short(text)} ends before it begins.", hint="Write the smaller first.")
    return low, high


@dataclass(frozen=True)
class Array:
    """The tasks of a job array.

    Attributes:
        tasks: the indexes, ascending.
        step: distance of the indexes where one was written, else 1.
        at_once: how many may run at the same time, None: all.
    """

    tasks: tuple[int, ...]
    step: int = 1
    at_once: int | None = None


def parse_array(text: str) -> Array:
    """The tasks of `0-3`, `1,4,9`, `0-10:2` or any list of these, with an optional `%2` at the end.

    Raises:
        InvalidRequestError: not of that form, or more tasks than `MAX_ARRAY_TASKS`.
    """
    listed, percent, limit = text.partition("%")
    tasks: set[int] = set()
    steps: set[int] = set()
    for part in listed.split(","):
        match = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9})(?::(\d{1,9}))?)?", part, re.ASCII)
        if match is None:
            raise InvalidRequestError(
                f"{_short(text)} is no job array.", hint="Write for example 0-9, 1,4,9 or 0-9:2%4."
            )
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1 or last > MAX_ARRAY_INDEX or len(range(first, last + 1, step)) > MAX_ARRAY_TASKS:
            raise InvalidRequestError(
                f"The job array {_short(text)} is empty or too large.",
                hint=f"Use ascending ranges of at most {MAX_ARRAY_TASKS} tasks, indexes up to {MAX_ARRAY_INDEX}.",
            )
        tasks.update(range(first, last + 1, step))
        steps.add(step)
        if len(tasks) > MAX_ARRAY_TASKS:
            raise InvalidRequestError(
                f"The job array {_short(text)} has more than {MAX_ARRAY_TASKS} tasks.", hint="Submit several arrays."
            )
    at_once = parse_count(limit, "array") if percent else None
    return Array(tuple(sorted(tasks)), steps.pop() if len(steps) == 1 else 1, at_once)


_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}


def parse_begin(text: str, now: datetime) -> datetime:
    """The earliest start that `--begin` names, in local time.

    Formats: `now`, `now+60`, `now+2hours`, `16:00[:00]` (the next one), `YYYY-MM-DD[THH:MM[:SS]]`, `today`, `tomorrow`,
    `midnight`, `noon`.

    Raises:
        InvalidRequestError: none of these.
    """
    try:
        then = _moment(text.lower(), now)
        if then is not None and then <= now + timedelta(days=3660):
            return max(then, now)
    except (ValueError, OverflowError):
        pass  # a 25th hour or a 31st of June: refused as any other text
    raise InvalidRequestError(
        f"{_short(text)} is no time to begin.", hint="Write for example now+1hour, 16:00 or 2027-01-20T12:30:00."
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


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
