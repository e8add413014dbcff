"""Runs Slurm's programs and reads their refusals."""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Mapping
from contextlib import nullcontext

from aiolimiter import AsyncLimiter

from crestline.gateway.hosts import Commands, Completed
from crestline.gateway.schedulers.command_lines import limit
from crestline.gateway.schedulers.slurm.options import SlurmOptions
from crestline.gateway.schedulers.slurm.queries import as_words
from crestline.gateway.schedulers.time_limit import TimeLimit
from crestline.gateway.schedulers.wording import RETRY_AFTER, TIMED_OUT, Wording
from crestline.model import CrestlineError, GatewayUnavailableError, TooLargeError

WORDING = Wording(
    "Slurm",
    prefix=re.compile(r"^\w+: (error: )?"),
    no_answer_words=re.compile(
        r"unable to contact slurm controller|socket timed out|connection (refused|timed out|failure)|zero bytes were"
        r" transmitted|problem talking to the database|persistent connection|unable to connect to|temporarily unable|"
        r"in standby mode|munge|protocol authentication error",
        re.IGNORECASE,
    ),
    no_job_words=re.compile(r"invalid job id|invalid job array|no such job|job not heterogeneous", re.IGNORECASE),
    no_permission_words=re.compile(r"permission denied|invalid user", re.IGNORECASE),
)
complaints, refusal, no_answer = WORDING.complaints, WORDING.refusal, WORDING.no_answer

_NO_ACCOUNTING = b"accounting storage is disabled"
"""a site without slurmdbd: nothing is recorded"""
LONGEST_OUTPUT = 8 * 1024 * 1024
"""bytes that a program may print for a user's own eyes"""
# Formats are ours to read: the epoch for times, whole lists of array tasks, and no filter that a user's own shell sets.
_READING = [
    "env",
    *(f"-u{kind}_{what}" for kind in ("SQUEUE", "SINFO") for what in ("PARTITION", "SORT")),
    *(f"-uSQUEUE_{what}" for what in ("ACCOUNT", "ARRAY", "LICENSES", "NAMES", "PRIORITY", "QOS", "USERS")),
    "-uSLURM_CLUSTERS",
    "SLURM_TIME_FORMAT=%s",
    "SLURM_BITSTR_LEN=0",
]


class SlurmCommands:
    """Slurm's programs on the machine that `commands` reaches."""

    def __init__(self, commands: Commands, options: SlurmOptions) -> None:
        self._commands = commands
        self._options = options
        self._reads = AsyncLimiter(options.read_rate, 1.0)
        self.answered: float | None = None
        """reading of `time.monotonic()` when Slurm last answered"""
        self.failure: CrestlineError | None = None
        """how the last command failed, None if it did not"""

    async def read(self, user: str, program: str, *arguments: str, time_limit: TimeLimit | None = None) -> bytes:
        """The output of a program that only looks.

        Args:
            user: the POSIX user that it runs as.
            program: of Slurm's.
            arguments: of the program.
            time_limit: how long it may take; None: as long as any.

        Raises:
            GatewayUnavailableError: no answer in time, or a failure that is not the asker's.
            JobNotFoundError, PermissionDeniedError: as Slurm words it.
        """
        seconds = self._options.timeout if time_limit is None else time_limit.seconds
        await self._reads.acquire()
        with nullcontext() if time_limit is None else time_limit.observe():
            words = [*_READING, *limit(seconds), self.path(program), *arguments]
            done = await self.run(user, words, timeout=seconds)
        if done.exit_status != 0 and _NO_ACCOUNTING not in done.stderr:
            error = refusal(program, done) or no_answer(program, done)
            self.failure = error if isinstance(error, GatewayUnavailableError) else None
            raise error
        self.failure, self.answered = None, time.monotonic()
        return done.stdout

    async def ask(self, user: str, variables: Mapping[str, str], program: str, *arguments: str) -> Completed:
        """Run a program that only looks, for the user's own eyes; its exit status is the user's to judge.

        Raises:
            GatewayUnavailableError: no answer in time.
            TooLargeError: it prints more than `LONGEST_OUTPUT`.
        """
        done = await self.run(user, [*as_words(variables), *self._limited(program), *arguments])
        if len(done.stdout) > LONGEST_OUTPUT:
            raise TooLargeError(f"{program} prints {len(done.stdout)} bytes.", hint="Ask for less at once.")
        return done

    async def act(self, user: str, program: str, *arguments: str) -> Completed:
        """Run a program that changes something; its exit status is the caller's to judge."""
        return await self.run(user, [*self._limited(program), *arguments])

    async def run(self, user: str, argv: list[str], *, input: bytes | None = None, timeout: float = 0.0) -> Completed:
        """Run a whole command line.

        Args:
            user: the POSIX user that it runs as.
            argv: the command line.
            input: its standard input.
            timeout: seconds; 0: the usual ones.

        Raises:
            GatewayUnavailableError: no answer in time, or the machine cannot be reached.
        """
        try:
            # The programs limit themselves; what is longer than that is the way to them.
            done = await self._commands.run(user, argv, input=input, timeout=(timeout or self._options.timeout) + 1)
            if done.exit_status in TIMED_OUT:
                raise WORDING.too_late()
        except GatewayUnavailableError as error:
            error.retry_after = error.retry_after or RETRY_AFTER
            self.failure = error
            raise
        return done

    def path(self, program: str) -> str:
        """The program as it is called."""
        return posixpath.join(self._options.directory, program) if self._options.directory else program

    def _limited(self, program: str) -> list[str]:
        return [*limit(self._options.timeout), self.path(program)]
