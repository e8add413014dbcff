"""How a batch system's programs word their refusals, and which of our errors each is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from crestline.gateway.hosts import Completed
from crestline.model import CrestlineError, GatewayUnavailableError, JobNotFoundError, PermissionDeniedError

RETRY_AFTER = 2.0
"""seconds after which it makes sense to ask a batch system again that did not answer"""

NOT_FOUND = 127
"""exit status of a shell or of timeout(1) that finds no such program"""

TIMED_OUT = (124, 137)
"""exit status of timeout(1)"""


@dataclass(frozen=True)
class Wording:
    """The words of one batch system."""

    name: str
    prefix: re.Pattern[str]
    """what a program writes before each of its complaints"""
    no_answer_words: re.Pattern[str]
    no_job_words: re.Pattern[str]
    no_permission_words: re.Pattern[str]

    def complaints(self, done: Completed) -> tuple[str, ...]:
        """The lines that a program wrote to its standard error, without its name before each."""
        lines = (line.strip() for line in done.stderr.decode(errors="replace").splitlines())
        return tuple(self.prefix.sub("", line)[:500] for line in lines if line)[:20]

    def is_no_answer(self, done: Completed) -> bool:
        """Whether a program failed because the batch system, or the program itself, is away."""
        return done.exit_status == NOT_FOUND or bool(self.no_answer_words.search(" ".join(self.complaints(done))))

    def refusal(self, program: str, done: Completed) -> CrestlineError | None:
        """What a failed program said, where the words are known."""
        said = self.complaints(done)
        text = " ".join(said)
        if self.is_no_answer(done):
            return self.no_answer(program, done)
        if self.no_job_words.search(text):
            return JobNotFoundError("Job not found.", details=said)
        if self.no_permission_words.search(text):
            return PermissionDeniedError(said[-1], hint=f"{self.name} does not let you do this.", details=said)
        return None

    def no_answer(self, program: str, done: Completed) -> GatewayUnavailableError:
        """A program that failed for no fault of the asker's."""
        said = self.complaints(done)
        what = f"{program} failed: {said[-1]}" if said else f"{program} failed with exit status {done.exit_status}."
        if done.exit_status == NOT_FOUND:
            hint = f"Set `directory` to where {self.name}'s programs lie."
        else:
            hint = "Try again in a moment."
        return GatewayUnavailableError(what, hint=hint, details=said, retry_after=RETRY_AFTER)

    def too_late(self) -> GatewayUnavailableError:
        """A program that did not end in time."""
        return GatewayUnavailableError(
            f"{self.name} did not answer in time.", hint="Try again.", retry_after=RETRY_AFTER
        )
