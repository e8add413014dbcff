"""What is written down of jobs, in a directory that all machines share.

jobs/<number>/job.json      the job, as it was submitted
jobs/<number>/script        0700
jobs/<number>/handed_over   HyperQueue's number of it
jobs/<number>/<task>/       claim, start, end, cancel: see `runner.sh`
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from crestline.private_files import write_private


class JobRecord(msgspec.Struct, kw_only=True):
    """A job as submitted. Times are in seconds, paths are absolute."""

    number: int
    user: str
    name: str
    tag: str
    directory: str
    submit: int
    tasks: list[int | None]
    """Indexes of an array, `[None]` for a single job."""
    cpus: int = 1
    nodes: int = 0
    """Number of nodes; 0: part of one machine."""
    time_limit: int | None = None
    account: str | None = None
    stdin: str = os.devnull
    """Paths of streams can contain `%j`, `%A`, `%a`, `%x` and `%u`."""
    stdout: str = ""
    stderr: str = ""
    environment: dict[str, str] = {}

    def task_id(self, task: int | None) -> str:
        """Return the id that users see."""
        return str(self.number) if task is None else f"{self.number}_{task}"

    def path(self, pattern: str, task: int | None) -> str:
        values = {"%j": self.task_id(task), "%A": str(self.number), "%a": str(task), "%x": self.name, "%u": self.user}
        for word, value in values.items():
            pattern = pattern.replace(word, value)
        return os.path.join(self.directory, pattern)


class TaskRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a task."""

    state: str = "PENDING"
    start: int | None = None
    end: int | None = None
    node: str = ""
    exit_code: int | None = None
    signal: int | None = None


class Records:
    """Records and scripts of jobs on disk, one directory per job."""

    def __init__(self, root: Path) -> None:
        self._jobs = root / "jobs"

    def prepare(self) -> None:
        """Create the directory."""
        self._jobs.mkdir(mode=0o700, parents=True, exist_ok=True)

    def directory(self, number: int) -> Path:
        return self._jobs / str(number)

    def task_directory(self, number: int, task: int | None) -> Path:
        return self.directory(number) / ("task" if task is None else f"task_{task}")

    def add(self, job: JobRecord, script: str) -> None:
        """Store a job under the next free number and set that number in `job`."""
        number = max((int(each.name) for each in self._jobs.iterdir() if each.name.isdigit()), default=0) + 1
        while True:
            try:
                self.directory(number).mkdir(mode=0o700)
                break
            except FileExistsError:
                number += 1
        job.number = number
        for task in job.tasks:
            self.task_directory(number, task).mkdir(mode=0o700)
        file = self.directory(number) / "script"
        file.write_text(script)
        file.chmod(0o700)
        # written last: a directory with this file is complete
        write_private(self.directory(number) / "job.json", msgspec.json.encode(job))

    def drop(self, number: int) -> None:
        """Delete a job that was never submitted to HyperQueue."""
        (self.directory(number) / "job.json").unlink(missing_ok=True)

    def load(self, known: set[int]) -> list[JobRecord]:
        """Return the jobs that are not in `known`, in the order of their numbers."""
        numbers = sorted(int(each.name) for each in self._jobs.iterdir() if each.name.isdigit())
        found = []
        for number in numbers:
            file = self.directory(number) / "job.json"
            if number not in known and file.exists():
                found.append(msgspec.json.decode(file.read_bytes(), type=JobRecord))
        return found

    def script(self, number: int) -> str:
        return (self.directory(number) / "script").read_text()

    def is_handed_over(self, number: int) -> bool:
        """Whether the record says that HyperQueue has the job."""
        return (self.directory(number) / "handed_over").exists()

    def hand_over(self, number: int, engine_id: int) -> None:
        """Record that HyperQueue has the job."""
        write_private(self.directory(number) / "handed_over", str(engine_id).encode())

    def cancel(self, number: int, task: int | None) -> None:
        """Request that a task ends, or does not start."""
        (self.task_directory(number, task) / "cancel").touch(mode=0o600)

    def task(self, number: int, task: int | None) -> TaskRecord:
        """Return the progress of a task."""
        directory = self.task_directory(number, task)
        start, end = _words(directory / "start"), _words(directory / "end")
        began, node = (int(start[0]), start[1]) if len(start) == 2 else (None, "")
        if len(end) == 4:
            return TaskRecord(
                state=end[1], start=began, end=int(end[0]), node=node, exit_code=int(end[2]), signal=int(end[3])
            )
        if began is not None:
            return TaskRecord(state="RUNNING", start=began, node=node)
        if (directory / "cancel").exists():
            return TaskRecord(state="CANCELLED", exit_code=0, signal=0, end=int((directory / "cancel").stat().st_mtime))
        return TaskRecord()


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except FileNotFoundError:
        return []
