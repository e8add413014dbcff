"""State shared by all parts of a simulation: its clock, its adversary, its time line and the first violation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

from crestline.testing.simulation.adversary import Adversary
from crestline.testing.simulation.event_loop import BEGIN


class ViolationError(AssertionError):
    """An invariant was violated."""


class World:
    """A simulation.

    Attributes:
        adversary: decides which faults happen.
        broken: fails with the first `ViolationError`.
        lines: the time line.
        sent: the time at which each request was sent.
        untold: requests that were executed twice, or after their response, so that no response reports it.
    """

    def __init__(self, adversary: Adversary) -> None:
        self.adversary = adversary
        self.loop = asyncio.get_running_loop()
        self.broken: asyncio.Future[None] = self.loop.create_future()
        self._outages: list[tuple[float, float, str]] = []
        self.lines: list[tuple[float, str, str]] = []
        self.sent: dict[str, float] = {}
        self.untold: set[str] = set()
        self._context = copy_context()

    def transition(self, of: str, before: str, after: str) -> None:
        """Count a transition between two states."""
        self.adversary.coverage[f"{before} -> {after}", of] += 1

    @property
    def now(self) -> float:
        """Seconds since the start of the simulation."""
        return self.loop.time() - BEGIN

    def note(self, actor: str, text: str) -> None:
        """Add a line to the time line."""
        self.lines.append((self.now, actor, text))

    def start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine outside all processes, even if a process starts it."""
        return self._context.run(self.loop.create_task, coroutine)

    def plan_outage(self, begin: float, length: float, kind: str) -> None:
        """Let all requests of a kind fail for a while."""
        self._outages.append((begin, begin + length, kind))

    def is_out(self, kind: str) -> bool:
        """Whether this outage is in progress."""
        return any(begin <= self.now < end and kind == each for begin, end, each in self._outages)

    def check(self, holds: bool, invariant: str) -> None:
        """End the simulation if an invariant is violated."""
        if not holds:
            self.note("VIOLATION", invariant)
            if not self.broken.done():
                self.broken.set_exception(ViolationError(invariant))
