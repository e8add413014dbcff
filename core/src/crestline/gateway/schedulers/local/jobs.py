"""A job of the local scheduler."""

from __future__ import annotations

import msgspec

from crestline.gateway.schedulers.local.queue import Allocation
from crestline.gateway.schedulers.local.request import Request

PENDING = "PENDING"
LAUNCHED = "LAUNCHED"
"""State of a job whose supervisor has not started the script yet. Shown as pending."""
RUNNING = "RUNNING"
SUSPENDED = "SUSPENDED"


class StepInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A job step besides the batch script, as `supervisor.records` writes it. Times are in seconds since the epoch."""

    id: str
    name: str
    state: str
    start: float
    end: float | None = None
    exit_code: int | None = None
    signal: int | None = None


class Job(msgspec.Struct, kw_only=True):
    """A job or a task of a job array. Times are in seconds since the epoch.

    `id` is a separate number also for an array task. Users name the task `<submission>_<task>`.
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
        """Whether the job holds no resources yet."""
        return self.state == PENDING

    @property
    def has_ended(self) -> bool:
        """Whether the job is in a terminal state."""
        return self.end is not None
