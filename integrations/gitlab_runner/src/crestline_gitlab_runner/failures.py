"""The ways in which a stage of the driver can fail."""

from __future__ import annotations

from crestline.model import CrestlineError


class BuildFailureError(CrestlineError):
    """The job failed by itself, or requests something that is not allowed.

    Attributes:
        code: exit code for `allow_failure:exit_codes` and `retry:exit_codes`; None: the default.
    """

    def __init__(self, message: str, *, hint: str = "", code: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SystemFailureError(CrestlineError):
    """The system, the gateway, the runner's machine or its configuration failed. A retry of the job may help."""


class RunnerGoneError(SystemFailureError):
    """The runner of the job has ended."""
