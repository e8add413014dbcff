"""Runs PBS's programs and reads their refusals."""

from __future__ import annotations

import posixpath
import re
import time
from contextlib import nullcontext

from aiolimiter import AsyncLimiter

from crestline.gateway.hosts import Commands, Completed
from crestline.gateway.schedulers.command_lines import CommandLine, limit
from crestline.gateway.schedulers.pbs.options import PbsOptions
from crestline.gateway.schedulers.time_limit import TimeLimit
from crestline.gateway.schedulers.wording import RETRY_AFTER, TIMED_OUT, Wording
from crestline.model import CrestlineError, GatewayUnavailableError

WORDING = Wording(
    "PBS",
    prefix=re.compile(r"^\w+: "),
    no_answer_words=re.compile(
        r"cannot connect to server|connection (refused|timed out|reset)|could not connect|no server|"
        r"errno=150(07|10|31|33)|timed out|server is down|communication failure",
        re.IGNORECASE,
    ),
    no_job_words=re.compile(r"unknown job ?id|illegally formed job identifier", re.IGNORECASE),
    no_permission_words=re.compile(
        r"unauthorized request|permission denied|not authorized|no permission", re.IGNORECASE
    ),
)
complaints, refusal, no_answer = WORDING.complaints, WORDING.refusal, WORDING.no_answer

HAS_FINISHED = re.compile(r"job has finished", re.IGNORECASE)


class PbsCommands:
    """PBS's programs on the machine that `commands` reaches."""

    def __init__(self, commands: Commands, options: PbsOptions) -> None:
        self._commands = commands
        self._options = options
        self._reads = AsyncLimiter(options.read_rate, 1.0)
        self.answered: float | None = None
        """reading of `time.monotonic()` when PBS last answered"""
        self.failure: CrestlineError | None = None
        """how the last look failed, None if it did not"""

    async def read(self, user: str, program: str, *arguments: str, time_limit: TimeLimit | None = None) -> Completed:
        """The output of a program that only looks; times in it are UTC.

        qstat fails where one of many jobs is unknown, so the caller judges the exit status.

        Args:
            user: the POSIX user that it runs as.
            program: of PBS's.
            arguments: of the program.
            time_limit: how long it may take; None: as long as any.

        Raises:
            GatewayUnavailableError: no answer.
        """
        seconds = self._options.timeout if time_limit is None else time_limit.seconds
        await self._reads.acquire()
        with nullcontext() if time_limit is None else time_limit.observe():
            words = ["env", "TZ=UTC0", *limit(seconds), self.path(program), *arguments]
            done = await self._run(user, words, timeout=seconds)
        if WORDING.is_no_answer(done):
            self.failure = no_answer(program, done)
            raise self.failure
        self.failure, self.answered = None, time.monotonic()
        return done

    async def act(self, user: str, program: str, *arguments: str) -> Completed:
        """Run a program that changes something; its exit status is the caller's to judge."""
        return await self._run(user, [*limit(self._options.timeout), self.path(program), *arguments])

    async def submit(self, user: str, line: CommandLine, directory: str) -> Completed:
        """Run qsub in a directory."""
        return await self._run(user, line.argv, input=line.input, cwd=directory, timeout=self._options.submit_timeout)

    def path(self, program: str) -> str:
        """The program as it is called."""
        return posixpath.join(self._options.directory, program) if self._options.directory else program

    async def _run(
        self, user: str, argv: list[str], *, input: bytes | None = None, cwd: str | None = None, timeout: float = 0.0
    ) -> Completed:
        try:
            # The programs limit themselves; what is longer than that is the way to them.
            done = await self._commands.run(
                user, argv, input=input, cwd=cwd, timeout=(timeout or self._options.timeout) + 1
            )
            if done.exit_status in TIMED_OUT:
                raise WORDING.too_late()
        except GatewayUnavailableError as error:
            error.retry_after = error.retry_after or RETRY_AFTER
            self.failure = error
            raise
        return done
