"""Run a seed, and shrink one that fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pkgutil
import random
import uuid
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from unittest import mock

from crestline.testing.simulation.adversary import Adversary
from crestline.testing.simulation.copying import Copying
from crestline.testing.simulation.event_loop import BEGIN, EndlessWaitError, TimeLimitError, VirtualEventLoop
from crestline.testing.simulation.following import Following
from crestline.testing.simulation.process import in_process, is_of_killed
from crestline.testing.simulation.submission import Submission
from crestline.testing.simulation.watching import Watching
from crestline.testing.simulation.world import ViolationError, World

LIMIT = 7200.0
"""Seconds of virtual time after which a run counts as endless."""


class Subject(Protocol):
    """A scenario with its invariants."""

    async def run(self) -> None:
        """Run the scenario to its end and check its invariants."""


SUBJECTS: dict[str, Callable[[World], Subject]] = {
    "submission": Submission,
    "watching": Watching,
    "copying": Copying,
    "following": Following,
}
"""The subjects of the client by name. Others are named `module:Class`."""


def subject_of(name: str) -> Callable[[World], Subject]:
    """Return the class of a subject, by its name in `SUBJECTS` or as `module:Class`."""
    found: Callable[[World], Subject] = SUBJECTS.get(name) or pkgutil.resolve_name(name)
    return found


@dataclass
class Outcome:
    """The result of a run.

    Attributes:
        violation: the violated invariant. None if all were satisfied.
        faults: the names of the faults that happened.
        lines: time, actor and text of each event.
        seconds: duration in virtual time.
    """

    subject: str
    seed: int
    violation: str | None = None
    faults: list[str] = field(default_factory=list)
    lines: list[tuple[float, str, str]] = field(default_factory=list)
    coverage: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def time_line(self) -> str:
        """Return the events of the run as readable lines."""
        head = f"{self.subject}, seed {self.seed}: {self.violation or 'all invariants hold'}"
        lines = [f"{time:9.3f} s  {actor:<18} {text}" for time, actor, text in self.lines]
        return "\n".join([head, *(f"  fault: {name}" for name in self.faults), *lines])


def run(subject: str, seed: int, only: Container[str] | None = None) -> Outcome:
    """Run a subject with a seed.

    Args:
        subject: its name, see `subject_of`.
        seed: the seed of all random decisions.
        only: names of the faults that may happen. None allows all.
    """
    outcome = Outcome(subject, seed)
    loop = VirtualEventLoop(LIMIT, in_process)
    adversary = Adversary(seed, only)
    worlds: list[World] = []

    async def main() -> None:
        loop.limit_threads()
        world = World(adversary)
        worlds.append(world)
        loop.set_exception_handler(
            lambda _, context: world.check(is_of_killed(context.get("future")), _describe(context))
        )
        task = loop.create_task(subject_of(subject)(world).run())
        await asyncio.wait([task, world.broken], return_when=asyncio.FIRST_COMPLETED)
        if world.broken.done():
            world.broken.result()
        task.result()

    with _seeded(seed), _quiet():
        try:
            loop.run_until_complete(main())
        except* ViolationError as errors:
            outcome.violation = str(_first(errors))
        except* (EndlessWaitError, TimeLimitError) as errors:
            outcome.violation = f"{type(_first(errors)).__name__}: {_first(errors)}"
        except* Exception as errors:
            error = _first(errors)
            outcome.violation = f"{type(error).__name__}: {error}"
        outcome.seconds = loop.time() - BEGIN
        _close(loop)
    outcome.lines = worlds[0].lines if worlds else []
    outcome.faults, outcome.coverage = adversary.faults, adversary.coverage
    return outcome


def shrink(outcome: Outcome, attempts: int = 400) -> Outcome:
    """Minimize the faults that violate the same invariant, by leaving them out in halves, then one by one.

    Args:
        outcome: a run that violated an invariant.
        attempts: maximum number of runs.
    """
    best, size = outcome, max(1, len(outcome.faults))
    while attempts > 0:
        begin = 0
        is_shorter = False
        while begin < len(best.faults) and attempts > 0:
            attempts -= 1
            shorter = run(outcome.subject, outcome.seed, {*best.faults[:begin], *best.faults[begin + size :]})
            if shorter.violation is not None and _kind(shorter.violation) == _kind(outcome.violation or ""):
                best, is_shorter = shorter, True
            else:
                begin += size
        if size == 1 and not is_shorter:
            break
        size = max(1, size // 2)
    return best


def _kind(violation: str) -> str:
    """Return the beginning of a violation, without its numbers."""
    return "".join(" " if each.isdigit() else each for each in violation).split(":")[0][:24]


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _describe(context: dict[str, Any]) -> str:
    error = context.get("exception")
    return f"{context['message']}: {type(error).__name__}: {error}" if error else context["message"]


def _close(loop: VirtualEventLoop) -> None:
    """Cancel the remaining tasks and close the loop. Errors of their cleanup are ignored."""
    loop.set_exception_handler(lambda *_: None)
    for _ in range(20):
        if not (tasks := asyncio.all_tasks(loop)):
            break
        for task in tasks:
            task.cancel()
        with contextlib.suppress(Exception):
            loop.run_until_complete(asyncio.wait(tasks, timeout=1.0))
    loop.close()


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the module `random`, the source of backoff jitter, and the random bytes of ids."""
    state = random.getstate()
    random.seed(seed)
    source = random.Random(f"{seed}/ids")  # noqa: S311

    def token_bytes(size: int | None = None) -> bytes:
        return source.randbytes(32 if size is None else size)

    def uuid4() -> uuid.UUID:
        return uuid.UUID(bytes=source.randbytes(16), version=4)

    with mock.patch("secrets.token_bytes", token_bytes), mock.patch("uuid.uuid4", uuid4):
        try:
            yield
        finally:
            random.setstate(state)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress log records."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
