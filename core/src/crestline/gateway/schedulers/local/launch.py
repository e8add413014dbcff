"""Starts a job's supervisor and communicates with it through files."""

from __future__ import annotations

import os
import posixpath
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

import crestline.gateway.schedulers.local.supervisor
from crestline.gateway.schedulers.local.environment import job_environment
from crestline.gateway.schedulers.local.jobs import Job, StepInfo
from crestline.gateway.schedulers.local.request import interpreter
from crestline.gateway.schedulers.local.streams import stream_paths
from crestline.gateway.schedulers.local.supervisor import records
from crestline.serving.limits import inherited_descriptor_limit

_SHELLS = frozenset({"bash", "dash", "ksh", "mksh", "sh", "zsh"})
_LOGIN_OPTION = re.compile(r"--login|-[A-Za-z]*l[A-Za-z]*")
_SUPERVISOR = [sys.executable, "-I", "-m", crestline.gateway.schedulers.local.supervisor.__name__]


class Launcher:
    """The files of jobs: `<directory>/jobs/<id>`, `<directory>/bin`, `<directory>/wake`."""

    def __init__(self, directory: Path, cluster: str, home_id: str, kill_wait: float) -> None:
        self._directory = directory
        self._cluster = cluster
        self._home_id = home_id
        self._kill_wait = kill_wait

    @property
    def wake(self) -> Path:
        """The FIFO through which supervisors report."""
        return self._directory / "wake"

    def job_directory(self, job_id: int) -> Path:
        """Return the directory of the job's files."""
        return self._directory / "jobs" / str(job_id)

    def install_commands(self) -> None:
        """Write the `srun` that jobs find in their PATH."""
        commands = self._directory / "bin"
        commands.mkdir(mode=0o700, exist_ok=True)
        command = [sys.executable, "-I", "-m", f"{crestline.gateway.schedulers.local.supervisor.__name__}.steps"]
        temporary = commands / ".srun"
        temporary.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        temporary.chmod(0o700)
        temporary.replace(commands / "srun")

    def prepare(self, job: Job, script: bytes) -> None:
        """Write the directory of a job that has its allocation. Can be called from any thread."""
        directory = self.job_directory(job.id)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (directory / records.REQUESTS).mkdir(mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkfifo(directory / records.CONTROL, 0o600)
        script_file = directory / "script"
        script_file.write_bytes(script)
        script_file.chmod(0o700)
        stdin, stdout, stderr = stream_paths(job)
        task: records.Task = {
            "marker": f"{self._home_id}/{job.id}",
            "argv": _command(
                interpreter(script.decode(errors="surrogateescape")), script_file, self._directory / "bin"
            ),
            "environment": job_environment(
                job,
                cluster=self._cluster,
                home_id=self._home_id,
                directory=directory,
                commands=self._directory / "bin",
            ),
            "directory": job.request.directory,
            "stdin": stdin,
            "stdout": stdout,
            "stderr": stderr,
            "append": job.request.append,
            "warnings": list(job.request.warnings),
            "time_limit": job.request.time_limit,
            "kill_wait": self._kill_wait,
            "wake": str(self.wake),
        }
        records.write(str(directory / records.TASK), task)

    def start(self, job_id: int) -> int:
        """Start a supervisor and return its process id. Has no effect if the job has one or has run."""
        directory = self.job_directory(job_id)
        log = str(directory / records.LOG)
        descriptors = inherited_descriptor_limit()
        return os.posix_spawn(
            sys.executable,
            [*_SUPERVISOR, str(directory), *([] if descriptors is None else [str(descriptors)])],
            {"PATH": os.defpath},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
        )

    def record(self, job_id: int) -> records.Record | None:
        """Return the record of the supervisor, or None before it has started the script."""
        found: records.Record | None = records.read(str(self.job_directory(job_id) / records.RECORD))
        return found

    def usage(self, job_id: int) -> records.Usage | None:
        """Return the resource usage of the job, or None before its end."""
        with suppress(ValueError):  # the job can write there too; invalid content is ignored
            found = records.read(str(self.job_directory(job_id) / records.USAGE))
            return None if found is None else msgspec.convert(found, records.Usage)
        return None

    def steps(self, job_id: int) -> tuple[StepInfo, ...]:
        """Return the job's steps besides the batch script, in their order."""
        steps = []
        for step in records.read_steps(str(self.job_directory(job_id))):
            with suppress(msgspec.ValidationError):  # the job can write there too; invalid content is ignored
                steps.append(msgspec.convert(step, StepInfo))
        return tuple(steps)

    def is_supervised(self, job_id: int) -> bool:
        """Whether a supervisor holds the job. For jobs that have a record."""
        lock = records.claim(str(self.job_directory(job_id)))
        if lock is None:
            return True
        os.close(lock)
        return False

    def ask(self, job_id: int, name: str, request: records.Request) -> None:
        """Write a request and wake the supervisor."""
        directory = self.job_directory(job_id)
        records.write(str(directory / records.REQUESTS / f"{name}.json"), request)
        records.notify(str(directory / records.CONTROL), "")

    def cancel(self, job_id: int) -> None:
        """Request the end of the job, before or after its start, and wake the supervisor."""
        directory = self.job_directory(job_id)
        (directory / records.CANCEL).touch(mode=0o600)
        records.notify(str(directory / records.CONTROL), "")


def _command(interpreter: list[str], script: Path, commands: Path) -> list[str]:
    """Return the command line that runs a script.

    A login shell (`#!/bin/bash -l`) sets PATH again in /etc/profile. Therefore `commands` is added to PATH after that,
    and the shell then reads the script itself, so that `$0` and line numbers do not change.
    """
    words = " ".join(interpreter).split()
    shell = next((number for number, word in enumerate(words) if posixpath.basename(word) in _SHELLS), None)
    if shell is not None and any(_LOGIN_OPTION.fullmatch(word) for word in words[shell + 1 :]):
        return [*interpreter, "-c", 'PATH="$1:$PATH"; shift; . "$0"', str(script), str(commands)]
    return [*interpreter, str(script)]
