"""Parse the `#SBATCH` lines of batch scripts."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

_SHORT = {
    "J": "job-name",
    "o": "output",
    "e": "error",
    "i": "input",
    "a": "array",
    "t": "time",
    "d": "dependency",
    "p": "partition",
    "A": "account",
    "n": "ntasks",
    "N": "nodes",
    "c": "cpus-per-task",
    "D": "chdir",
    "H": "hold",
}
_FLAGS = {"hold", "requeue", "no-requeue", "exclusive", "overcommit", "parsable", "wait"}


@dataclass(frozen=True)
class Array:
    """The tasks of a job array, and how many of them may run concurrently (None: all)."""

    tasks: tuple[int, ...]
    at_once: int | None = None


def directives(script: str) -> dict[str, str]:
    """Return the long option names and values from the `#SBATCH` lines before the first command."""
    found: dict[str, str] = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH"):
            found |= _options(shlex.split(line.removeprefix("#SBATCH"), comments=True))
        elif line.strip() and not line.startswith("#"):
            break
    return found


def seconds(text: str) -> int:
    """Parse a Slurm time limit (`30`, `30:00`, `1:00:00`, `1-12:30:00`) into seconds. Raises ValueError."""
    days, _, rest = text.rpartition("-")
    numbers = [int(part) for part in rest.split(":")]
    if days:
        hours, minutes, secs = [*numbers, 0, 0][:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + secs
    if len(numbers) == 1:
        return numbers[0] * 60
    total = 0
    for number in numbers:
        total = total * 60 + number
    return total


def array(text: str) -> Array:
    """Parse the tasks of `0-3`, `1,4,9` or `0-10:2`, each with an optional `%2`. Raises ValueError."""
    spec, _, at_once = text.partition("%")
    tasks: set[int] = set()
    for part in spec.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part)
        if not match:
            raise ValueError("Invalid job array specification")
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        tasks.update(range(first, last + 1, step))
    return Array(tuple(sorted(tasks)), int(at_once) if at_once else None)


def file_name(pattern: str, values: dict[str, str]) -> str:
    """Replace `%j`, `%A`, `%a`, `%x`, `%u`, `%N` and `%%` in a file name (`%4j` pads with zeros)."""

    def replaced(match: re.Match[str]) -> str:
        if match[2] == "%":
            return "%"
        value = values.get(match[2])
        return match[0] if value is None else value.zfill(int(match[1] or 0))

    return re.sub(r"%(\d*)([jJAaxuNsn%])", replaced, pattern)


def interpreter(script: str) -> list[str]:
    """Return the program of the first line, with its argument if there is one."""
    return script.splitlines()[0].removeprefix("#!").strip().split(None, 1)


def _options(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, given, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, given, value = _SHORT.get(word[1], word[1]), word[2:], word[2:].removeprefix("=")
        else:
            continue
        if not given and name not in _FLAGS and words and not words[0].startswith("-"):
            value = words.pop(0)
        found[name] = value
    return found
