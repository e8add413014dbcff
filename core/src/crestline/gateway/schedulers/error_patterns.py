"""Error messages of schedulers' programs, and the error that each of them stands for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.command_lines import directory_refusal
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    InvalidRequestError,
    JobNotFoundError,
    PermissionDeniedError,
    SubmitLimitError,
)

RETRY_AFTER = 2.0
"""Seconds after which a client may ask an unresponsive scheduler again."""

NOT_FOUND = 127
"""Exit status of a shell or of timeout(1) for an unknown program."""

TIMED_OUT = (124, 137)
"""Exit statuses of timeout(1) after the time limit."""

_CORRECT = "Correct the job description."


@dataclass(frozen=True)
class ErrorPatterns:
    """The error messages of one scheduler."""

    name: str
    prefix: re.Pattern[str]
    """Prefix of each error message of a program."""
    unavailable_patterns: re.Pattern[str]
    unknown_job_patterns: re.Pattern[str]
    permission_patterns: re.Pattern[str]

    def stderr_lines(self, done: Completed) -> tuple[str, ...]:
        """Return the lines of a program's standard error, without its name before each."""
        lines = (line.strip() for line in done.stderr.decode(errors="replace").splitlines())
        return tuple(self.prefix.sub("", line)[:500] for line in lines if line)[:20]

    def is_no_answer(self, done: Completed) -> bool:
        """Whether a program failed because the scheduler, or the program itself, is unavailable."""
        return done.exit_status == NOT_FOUND or bool(
            self.unavailable_patterns.search(" ".join(self.stderr_lines(done)))
        )

    def refusal(self, program: str, done: Completed) -> CrestlineError | None:
        """Return the error of a failed program if its message is known."""
        said = self.stderr_lines(done)
        text = " ".join(said)
        if self.is_no_answer(done):
            return self.unavailable(program, done)
        if self.unknown_job_patterns.search(text):
            return JobNotFoundError("Job not found.", details=said)
        if self.permission_patterns.search(text):
            return PermissionDeniedError(said[-1], hint=f"{self.name} does not let you do this.", details=said)
        return None

    def unavailable(self, program: str, done: Completed) -> GatewayUnavailableError:
        """Return the error for a program that failed through no fault of the caller."""
        said = self.stderr_lines(done)
        what = f"{program} failed: {said[-1]}" if said else f"{program} failed with exit status {done.exit_status}."
        if done.exit_status == NOT_FOUND:
            hint = f"Set `directory` to where {self.name}'s programs lie."
        else:
            hint = "Try again in a moment."
        return GatewayUnavailableError(what, hint=hint, details=said, retry_after=RETRY_AFTER)

    def submission_refusal(
        self, program: str, done: Completed, *, what: str = "", hint: Callable[[str], str] = lambda said: _CORRECT
    ) -> CrestlineError:
        """Return the error for a submission that printed no job id.

        Args:
            program: name of the program.
            done: how it ended.
            what: the message that gives the reason; empty: the first one.
            hint: returns what to do, from the whole message.
        """
        said = self.stderr_lines(done)
        if (unusable := directory_refusal(said)) is not None:
            return unusable
        known = self.refusal(program, done)
        # the unknown job is a dependency of the caller's job
        if known is not None and not isinstance(known, JobNotFoundError):
            return known
        what = what or (said[0] if said else f"{program} ended with {done.exit_status} and named no job.")
        words = " ".join(said)
        if SubmitLimitError.is_meant(words):
            return SubmitLimitError(
                f"{self.name} refused the job: {what}",
                hint="Submit it again when one of your jobs has ended.",
                details=said,
            )
        return InvalidRequestError(f"{self.name} refused the job: {what}", hint=hint(words), details=said)

    def timed_out(self) -> GatewayUnavailableError:
        """Return the error for a program that did not end in time."""
        return GatewayUnavailableError(
            f"{self.name} did not answer in time.", hint="Try again.", retry_after=RETRY_AFTER
        )
