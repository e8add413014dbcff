"""Runs PBS's programs and reads their refusals."""

from __future__ import annotations

import posixpath
import re
import time

from crestline.gateway.hosts import Commands, Completed
from crestline.gateway.schedulers.command_lines import CommandLine, limit
from crestline.gateway.schedulers.pbs.options import PbsOptions
from crestline.model import CrestlineError, GatewayUnavailableError, JobNotFoundError, PermissionDeniedError

RETRY_AFTER = 2.0
"""seconds after which it makes sense to ask a PBS again that did not answer"""

_NO_ANSWER = re.compile(
    r"cannot connect to server|connection (refused|timed out|reset)|could not connect|no server|errno=150(07|10|31|33)|"
    r"timed out|server is down|communication failure",
    re.IGNORECASE,
)
_NO_JOB = re.compile(r"unknown job ?id|illegally formed job identifier", re.IGNORECASE)
HAS_FINISHED = re.compile(r"job has finished", re.IGNORECASE)
_NO_PERMISSION = re.compile(r"unauthorized request|permission denied|not authorized|no permission", re.IGNORECASE)
_TIMED_OUT = (124, 137)
_NOT_FOUND = 127


class PbsCommands:
    """PBS's programs on the machine that `commands` reaches."""

    def __init__(self, commands: Commands, options: PbsOptions) -> None:
        self._commands = commands
        self._options = options
        self.answered: float | None = None
        """reading of `time.monotonic()` when PBS last answered"""
        self.failure: CrestlineError | None = None
        """how the last look failed, None if it did not"""

    async def read(self, user: str, program: str, *arguments: str) -> Completed:
        """The output of a program that only looks; times in it are UTC.

        qstat fails where one of many jobs is unknown, so whoever asks judges the exit status.

        Raises:
            GatewayUnavailableError: no answer.
        """
        done = await self._run(user, ["env", "TZ=UTC0", *limit(self._options.timeout), self.path(program), *arguments])
        if done.exit_status == _NOT_FOUND or _NO_ANSWER.search(" ".join(complaints(done))):
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
            if done.exit_status in _TIMED_OUT:
                raise GatewayUnavailableError("PBS did not answer in time.", hint="Try again.")
        except GatewayUnavailableError as error:
            error.retry_after = error.retry_after or RETRY_AFTER
            self.failure = error
            raise
        return done


def refusal(program: str, done: Completed) -> CrestlineError | None:
    """What a failed program said, where the words are known."""
    said = complaints(done)
    text = " ".join(said)
    if _NO_ANSWER.search(text) or done.exit_status == _NOT_FOUND:
        return no_answer(program, done)
    if _NO_JOB.search(text):
        return JobNotFoundError("Job not found.", details=said)
    if _NO_PERMISSION.search(text):
        return PermissionDeniedError(said[-1], hint="PBS does not let you do this.", details=said)
    return None


def no_answer(program: str, done: Completed) -> GatewayUnavailableError:
    """A program that failed for no fault of the asker's."""
    said = complaints(done)
    what = f"{program} failed: {said[-1]}" if said else f"{program} failed with exit status {done.exit_status}."
    hint = (
        "Try again in a moment." if done.exit_status != _NOT_FOUND else "Set `directory` to where PBS's programs lie."
    )
    return GatewayUnavailableError(what, hint=hint, details=said, retry_after=RETRY_AFTER)


def complaints(done: Completed) -> tuple[str, ...]:
    """The lines that a program wrote to its standard error, without its name before each."""
    lines = (line.strip() for line in done.stderr.decode(errors="replace").splitlines())
    return tuple(re.sub(r"^\w+: ", "", line)[:500] for line in lines if line)[:20]
