"""Runs a scheduler's programs with a time limit and a rate limit, and records whether the scheduler responds."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Annotated, ClassVar

import msgspec
from aiolimiter import AsyncLimiter

from crestline.gateway.hosts import MAX_ANSWER, Commands, Completed
from crestline.gateway.schedulers.command_lines import limit
from crestline.gateway.schedulers.error_patterns import RETRY_AFTER, TIMED_OUT, ErrorPatterns
from crestline.gateway.schedulers.job_cache import MAX_STALE
from crestline.gateway.schedulers.time_limit import TimeLimit
from crestline.model import CrestlineError, GatewayUnavailableError


class ProgramOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of a `scheduler` table that all schedulers with a command-line interface share. Durations are in seconds."""

    observer: str | None = None
    """POSIX user that can see all jobs, so that one query of the queue serves all users. None: one query for each
    user."""
    directory: str | None = None
    """Directory of the scheduler's programs; None: those in the PATH."""
    timeout: float = 5.0
    """Seconds for each command that does not submit."""
    submit_timeout: float = 10.0
    """Seconds for a submission."""
    max_age: float = 1.0
    """Seconds for which a job list is served from memory."""
    max_stale: float = MAX_STALE
    """Seconds for which an older list is served, with its age, while a newer one is late because the queue is long
    or the scheduler is slow."""
    read_rate: Annotated[float, msgspec.Meta(ge=1)] = 50.0
    """Read-only commands per second. Further commands wait, and with many active users lists get older."""


class Programs:
    """A scheduler's programs on the machine that `commands` reaches."""

    wording: ClassVar[ErrorPatterns]
    environment: ClassVar[Sequence[str]]
    """Prefix of read-only programs."""

    def __init__(self, commands: Commands, options: ProgramOptions) -> None:
        self._commands = commands
        self._options = options
        self._reads = AsyncLimiter(options.read_rate, 1.0)
        self.answered: float | None = None
        """When the scheduler last responded, as a reading of `time.monotonic()`."""
        self.failure: CrestlineError | None = None
        """The error of the last command; None if it succeeded."""

    async def run_query(
        self,
        user: str,
        program: str,
        *arguments: str,
        time_limit: TimeLimit | None = None,
        max_output: int = MAX_ANSWER,
    ) -> Completed:
        """Run a read-only program. The caller checks its exit status.

        Args:
            user: the POSIX user that it runs as.
            program: name of the scheduler's program.
            arguments: arguments of the program.
            time_limit: how long it may take; None: the default.
            max_output: limit of its output in bytes.

        Raises:
            TooLargeError: it wrote more than `max_output` bytes.
            GatewayUnavailableError: the program did not end in time, or the machine cannot be reached.
        """
        seconds = self._options.timeout if time_limit is None else time_limit.seconds
        await self._reads.acquire()
        with nullcontext() if time_limit is None else time_limit.observe():
            words = [*self.environment, *limit(seconds), self.path(program), *arguments]
            return await self.run(user, words, timeout=seconds, max_output=max_output)

    def note(self, failure: CrestlineError | None) -> None:
        """Record the error of a query, or None if the scheduler responded."""
        self.failure = failure
        if failure is None:
            self.answered = time.monotonic()

    async def act(self, user: str, program: str, *arguments: str) -> Completed:
        """Run a program that changes something. The caller checks its exit status."""
        return await self.run(user, self.limited(program, *arguments))

    async def run(
        self,
        user: str,
        argv: list[str],
        *,
        input: bytes | None = None,
        cwd: str | None = None,
        timeout: float = 0.0,
        max_output: int = MAX_ANSWER,
    ) -> Completed:
        """Run a whole command line.

        Args:
            user: the POSIX user that it runs as.
            argv: the command line.
            input: its standard input.
            cwd: the directory in which it runs; None: any.
            timeout: seconds; 0: the default.
            max_output: limit of its output in bytes.

        Raises:
            TooLargeError: it wrote more than `max_output` bytes.
            GatewayUnavailableError: the program did not end in time, or the machine cannot be reached.
        """
        try:
            # The programs limit themselves. The additional second is for the connection to the machine.
            seconds = (timeout or self._options.timeout) + 1
            done = await self._commands.run(user, argv, input=input, cwd=cwd, timeout=seconds, max_output=max_output)
            if done.exit_status in TIMED_OUT:
                raise self.wording.timed_out()
        except GatewayUnavailableError as error:
            error.retry_after = error.retry_after or RETRY_AFTER
            self.failure = error
            raise
        return done

    def last_answer(self) -> str:
        """Describe when the scheduler last responded, for the health report.

        Raises:
            CrestlineError: the last query failed.
        """
        if self.failure is not None:
            raise self.failure
        if self.answered is None:
            return "No request has been sent yet."
        return f"Answered {time.monotonic() - self.answered:.0f} s ago."

    def path(self, program: str) -> str:
        return posixpath.join(self._options.directory, program) if self._options.directory else program

    def limited(self, program: str, *arguments: str) -> list[str]:
        """Return a command line that ends after the default time."""
        return [*limit(self._options.timeout), self.path(program), *arguments]
