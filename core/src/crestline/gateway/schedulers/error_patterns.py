"""How a batch system's programs word their refusals, and which of our errors each is."""

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
"""seconds after which it makes sense to ask a batch system again that did not answer"""

NOT_FOUND = 127
"""exit status of a shell or of timeout(1) that finds no such program"""

TIMED_OUT = (124, 137)
"""exit status of timeout(1)"""

_CORRECT = "Correct the job description."


@dataclass(frozen=True)
class ErrorPatterns:
    """The words of one batch system."""

    name: str
    prefix: re.Pattern[str]
    """what a program writes before each of its complaints"""
    no_answer_words: re.Pattern[str]
    no_job_words: re.Pattern[str]
    no_permission_words: re.Pattern[str]

    def stderr_lines(self, done: Completed) -> tuple[str, ...]:
        """The lines that a program wrote to its standard error, without its name before each."""
        lines = (line.strip() for line in done.stderr.decode(errors="replace").splitlines())
        return tuple(self.prefix.sub("", line)[:500] for line in lines if line)[:20]

    def is_no_answer(self, done: Completed) -> bool:
        """Whether a program failed because the batch system, or the program itself, is away."""
        return done.exit_status == NOT_FOUND or bool(self.no_answer_words.search(" ".join(self.stderr_lines(done))))

    def refusal(self, program: str, done: Completed) -> CrestlineError | None:
        """What a failed program said, where the words are known."""
        said = self.stderr_lines(done)
        text = " ".join(said)
        if self.is_no_answer(done):
            return self.unavailable(program, done)
        if self.no_job_words.search(text):
            return JobNotFoundError("Job not found.", details=said)
        if self.no_permission_words.search(text):
            return PermissionDeniedError(said[-1], hint=f"{self.name} does not let you do this.", details=said)
        return None

    def unavailable(self, program: str, done: Completed) -> GatewayUnavailableError:
        """A program that failed for no fault of the asker's."""
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
        """Why a program that submits named no job.

        Args:
            program: its name.
            done: how it ended.
            what: the complaint that says why; empty: the first one.
            hint: what to do, by all that it said.
        """
        said = self.stderr_lines(done)
        if (unusable := directory_refusal(said)) is not None:
            return unusable
        known = self.refusal(program, done)
        if known is not None and not isinstance(known, JobNotFoundError):  # an unknown job is the asker's dependency
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
        """A program that did not end in time."""
        return GatewayUnavailableError(
            f"{self.name} did not answer in time.", hint="Try again.", retry_after=RETRY_AFTER
        )
