"""A job as the scheduler knows it."""

from __future__ import annotations

import msgspec

from crestline.gateway.schedulers.local.queue import Allocation
from crestline.gateway.schedulers.local.request import Request

PENDING = "PENDING"
LAUNCHED = "LAUNCHED"
"""Handed over to a supervisor that has not started the script yet; shown as pending."""
RUNNING = "RUNNING"
SUSPENDED = "SUSPENDED"


class StepInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A job step beside the batch script, as `supervisor.records` writes it; times in seconds since the epoch."""

    id: str
    name: str
    state: str
    start: float
    end: float | None = None
    exit_code: int | None = None
    signal: int | None = None


class Job(msgspec.Struct, kw_only=True):
    """One job or one task of a job array; times in seconds since the epoch.

    `id` is a number of its own also for an array task; users name the task `<submission>_<task>`.
    """

    id: int
    submission: int
    task: int | None
    user: str
    request: Request
    submit: float
    state: str = PENDING
    reason: str = "None"
    held: bool = False
    start: float | None = None
    end: float | None = None
    exit_code: int | None = None
    signal: int | None = None
    suspended: float = 0.0
    suspended_since: float | None = None
    allocation: Allocation = {}
    cancelled_by: str | None = None
    steps: tuple[StepInfo, ...] = ()

    @property
    def name(self) -> str:
        """The id that users see."""
        return str(self.id) if self.task is None else f"{self.submission}_{self.task}"

    @property
    def is_pending(self) -> bool:
        """True while it holds no resources."""
        return self.state == PENDING

    @property
    def has_ended(self) -> bool:
        """True once nothing about it changes any more."""
        return self.end is not None
