"""A job's directory: what lies there, and how it is written so that no reader ever sees half of it.

job.json      what to run (`Task`); written once, before the supervisor starts
claim         locked by the job's supervisor while it lives
record.json   what happened (`Record`); its presence says that the script was started, so it is never started again
control       FIFO that wakes the supervisor
requests/     what the supervisor shall do: `cancel`, and one file per `Request`
steps/        one file per job step (`Step`)
usage.json    what it has used (`Usage`); written at the end
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from typing import Any, TypedDict, cast

TASK = "job.json"
CLAIM = "claim"
RECORD = "record.json"
CONTROL = "control"
REQUESTS = "requests"
STEPS = "steps"
USAGE = "usage.json"
CANCEL = os.path.join(REQUESTS, "cancel")
LAUNCH_ERROR = "launch_error"
LOG = "supervisor.log"

MARKER = "CRESTLINE_JOB"
"""Environment variable that marks the processes of a job, even if their parents have ended."""
DIRECTORY = "CRESTLINE_JOB_DIR"
"""Environment variable with the job's directory, for `srun`."""


class Task(TypedDict):
    """The task of a supervisor. Paths are absolute, times in seconds."""

    marker: str
    argv: list[str]
    environment: dict[str, str]
    directory: str
    stdin: str
    stdout: str
    stderr: str
    append: bool
    warnings: list[str]
    time_limit: int | None
    kill_wait: float
    wake: str
    """FIFO of the scheduler."""


class Record(TypedDict):
    """The result of a job. `state` is Slurm's name. Times are seconds since the epoch, `suspended` is a duration."""

    state: str
    reason: str
    start: float | None
    end: float | None
    exit_code: int | None
    signal: int | None
    suspended: float
    suspended_since: float | None
    boot: str


class Usage(TypedDict):
    """Processor time of all processes in seconds, and memory of the largest process in bytes."""

    cpu_seconds: float
    memory: int


class Request(TypedDict):
    """A request. `action` is `attach`, `suspend` or `resume`."""

    action: str
    argv: list[str]


class Step(TypedDict):
    """A job step besides the batch script."""

    id: str
    name: str
    state: str
    start: float
    end: float | None
    exit_code: int | None
    signal: int | None


def read(path: str) -> Any:
    """Return the JSON of a file, or None if the file does not exist."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return None


def write(path: str, value: Any) -> None:
    """Replace a file by the JSON of `value` atomically. The data is on disk when the function returns."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(descriptor)
    os.replace(temporary, path)


def notify(fifo: str, line: str) -> bool:
    """Write a line into a FIFO. Return False if it has no reader, or is full, in which case its reader wakes anyway."""
    try:
        descriptor = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # ENXIO: the FIFO has no reader; ENOENT: the FIFO does not exist yet
        return False
    try:
        os.write(descriptor, line.encode()[:500].replace(b"\n", b" ") + b"\n")
    except (BlockingIOError, BrokenPipeError):
        return False
    finally:
        os.close(descriptor)
    return True


def claim(directory: str) -> int | None:
    """Claim the job for this process and return the descriptor of the lock, or None if another process holds it."""
    descriptor = os.open(os.path.join(directory, CLAIM), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def read_steps(directory: str) -> list[Step]:
    """Return the job steps in the order of their ids, without the batch script."""
    folder = os.path.join(directory, STEPS)
    try:
        names = [name for name in os.listdir(folder) if re.fullmatch(r"\d{1,9}\.json", name, re.ASCII)]
    except FileNotFoundError:
        return []
    steps = []
    for name in sorted(names, key=lambda name: int(name.removesuffix(".json"))):
        try:
            step = read(os.path.join(folder, name))
        except ValueError:  # the job can write there too; invalid content is ignored
            continue
        if isinstance(step, dict) and step.keys() == Step.__annotations__.keys():
            steps.append(cast(Step, step))
    return steps


def add_step(directory: str, step: Step) -> Step:
    """Record a new step under the next free id."""
    folder = os.path.join(directory, STEPS)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    number = len(os.listdir(folder))
    while True:
        path = os.path.join(folder, f"{number}.json")
        numbered: Step = {**step, "id": str(number)}
        temporary = f"{path}.{os.getpid()}.new"
        write(temporary, numbered)
        try:
            os.link(temporary, path)  # fails if the name exists, and makes the complete step visible at once
        except FileExistsError:
            number += 1
        else:
            return numbered
        finally:
            os.unlink(temporary)


def end_step(directory: str, step: Step, *, state: str, end: float, exit_code: int, signal: int) -> None:
    """Record how a step ended."""
    ended: Step = {**step, "state": state, "end": end, "exit_code": exit_code, "signal": signal}
    write(os.path.join(directory, STEPS, f"{step['id']}.json"), ended)


def outcome(status: int) -> tuple[str, int, int]:
    """Return state, exit code and signal of a wait status in Slurm's terms."""
    if os.WIFSIGNALED(status):
        return "FAILED", 0, os.WTERMSIG(status)
    code = os.WEXITSTATUS(status)
    return ("FAILED" if code else "COMPLETED"), code, 0


def boot_id() -> str:
    """Return the id of this boot of the machine, or an empty string if the system has none."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""
