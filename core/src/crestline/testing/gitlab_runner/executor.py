"""Calls of the executor with their process groups, signals, output and exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path


@dataclass
class Custom:
    """`[runners.custom]` of config.toml, with the argument list of each call. Times are in seconds."""

    config: list[str]
    prepare: list[str]
    run: list[str]
    cleanup: list[str]
    graceful_kill_timeout: float = 60
    force_kill_timeout: float = 10
    environment: dict[str, str] = field(default_factory=dict)
    """variables of the runner's own process"""
    pause: float = 0.1
    """time between two tries (3 s in the real runner)"""


class StopError(Exception):
    """The job has ended, with the reason of the real runner (BuildError, SystemFailure, cancelled)."""

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code


@dataclass
class Call:
    """One finished call of the executor."""

    stage: str
    status: int
    """exit status; negative for a signal"""
    seconds: float
    """duration of the call"""


class Executor:
    """Calls the executor's programs for one job and collects their output.

    Args:
        custom: the programs.
        modern: True if the runner reads the file with the exit code.
        before_call: called with the stage before each call.
        on_output: called with each piece of the job's log.
    """

    def __init__(
        self,
        custom: Custom,
        *,
        modern: bool,
        before_call: Callable[[str], None] | None = None,
        on_output: Callable[[bytes], None] | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self.log = b""
        self.runner_log = b""
        self.aborted = threading.Event()
        """Set to stop the running program. Only cleanup follows."""
        self.killed = False
        """Whether the runner was killed. The running program then gets no signal."""
        self._custom = custom
        self._modern = modern
        self._before_call = before_call
        self._on_output = on_output
        self._process: subprocess.Popen[bytes] | None = None
        self._stage = ""
        self._over = False
        self._news = threading.Condition()

    def call(
        self,
        stage: str,
        command: list[str],
        *,
        folder: str,
        environment: dict[str, str],
        until: threading.Event | None = None,
        stdout_is_answer: bool = False,
        to_job_log: bool = True,
        interruptible: bool = True,
    ) -> bytes:
        """Run a program once. Returns its stdout if `stdout_is_answer`.

        Raises:
            StopError: the program failed or was stopped.
        """
        stops = [self.aborted, *([until] if until is not None else [])] if interruptible else []
        if any(stop.is_set() for stop in stops):
            raise StopError("canceled")
        if self._before_call is not None:
            self._before_call(stage)
        began = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if stdout_is_answer else subprocess.STDOUT,
            env=environment,
            process_group=0,
        )
        with self._news:
            self._process, self._stage = process, stage
            self._news.notify_all()
        answer: list[bytes] = []
        log = self.write if to_job_log else self._write_runner_log
        pipes = [(process.stdout, answer.append if stdout_is_answer else log)]
        if stdout_is_answer:
            pipes.append((process.stderr, log))
        readers = [threading.Thread(target=_read, args=each, daemon=True) for each in pipes]
        for reader in readers:
            reader.start()
        stopped = self._await(process, stops)
        for reader in readers:  # as in Go's cmd.Wait, a child that keeps the pipe open delays the end of the stage
            reader.join(10 if self.killed else None)
        status = process.returncode
        self.calls.append(Call(stage, status, time.monotonic() - began))
        if stopped:
            raise StopError("canceled")
        self._judge(status, folder)
        return b"".join(answer)

    def write(self, content: bytes) -> None:
        """Append to the job's log."""
        if self._on_output is not None:
            self._on_output(content)
        with self._news:
            self.log += content
            self._news.notify_all()

    def end(self) -> None:
        """Release all waiting threads after the last call."""
        with self._news:
            self._stage, self._over = "", True
            self._news.notify_all()

    def wait_for(self, text: bytes, seconds: float) -> bool:
        """Wait until the log contains `text`. Returns whether it does."""
        with self._news:
            self._news.wait_for(lambda: text in self.log or self._over, seconds)
        return text in self.log

    def wait_for_stage(self, stage: str, seconds: float) -> int | None:
        """Wait until a stage's process runs. Returns its pid, or None if the stage was not reached."""
        with self._news:
            self._news.wait_for(lambda: self._stage == stage or self._over, seconds)
            return self._process.pid if self._process is not None and self._stage == stage else None

    @property
    def running_pid(self) -> int | None:
        """Process id of the running call, or None."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def _await(self, process: subprocess.Popen[bytes], stops: list[threading.Event]) -> bool:
        """Wait for the end of the process. Returns whether it was stopped."""
        while True:
            try:
                process.wait(0.02)
                return False
            except subprocess.TimeoutExpired:
                if any(stop.is_set() for stop in stops):
                    break
        if self.killed:
            process.wait(120)
            return True
        for number, patience in (
            (signal.SIGTERM, self._custom.graceful_kill_timeout),
            (signal.SIGKILL, self._custom.force_kill_timeout),
        ):
            os.killpg(process.pid, number)
            try:
                process.wait(patience)
                break
            except subprocess.TimeoutExpired:
                continue
        return True

    def _judge(self, status: int, folder: str) -> None:
        if status == 0:
            return
        if status == 1:
            file = Path(folder, "build_exit_code")
            if self._modern and file.exists():
                try:
                    raise StopError("script_failure", int(file.read_text().split("\n")[0]))
                except ValueError:
                    raise StopError("runner_system_failure") from None
            raise StopError("script_failure", 1)
        raise StopError("runner_system_failure")

    def _write_runner_log(self, content: bytes) -> None:
        self.runner_log += content


def _read(pipe: object, write: Callable[[bytes], object]) -> None:
    for content in iter(partial(os.read, pipe.fileno(), 65536), b""):  # type: ignore[attr-defined]
        write(content)
