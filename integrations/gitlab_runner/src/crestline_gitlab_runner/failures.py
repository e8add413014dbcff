"""Whose fault it is: the three ways in which a stage of the driver ends."""

from __future__ import annotations

from crestline.model import CrestlineError


class BuildFailureError(CrestlineError):
    """The job failed by itself, or asks for what it may not have.

    Attributes:
        code: what `allow_failure:exit_codes` and `retry:exit_codes` see; None: nothing in particular.
    """

    def __init__(self, message: str, *, hint: str = "", code: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.code = code


class SystemFailureError(CrestlineError):
    """The system, the gateway, the runner's machine or its configuration failed; repeating the job may help."""


class RunnerGoneError(SystemFailureError):
    """The runner for which the job would run is gone."""
