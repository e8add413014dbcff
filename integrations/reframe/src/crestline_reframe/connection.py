"""The connection of a run, with the run's directory on the system."""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Awaitable, Callable

from crestline.client import System
from crestline.single_flight import SingleFlight
from crestline_reframe.stage_dirs import StageDirs


class RunConnection:
    """The system of a run, opened by the first job that needs it.

    Args:
        base: directory on the system below which the run has its own; None: `reframe` in the user's directory.
        name: name of the run's directory.
        stage_dirs: receives the path of that directory once it is known.
    """

    def __init__(self, system: System, base: str | None, name: str, stage_dirs: StageDirs) -> None:
        self._system = system
        self._base = base
        self._name = name
        self._stage_dirs = stage_dirs
        self._opening: SingleFlight[None, System] = SingleFlight()
        self._preparations: list[Callable[[System], Awaitable[None]]] = []

    def before_use(self, prepare: Callable[[System], Awaitable[None]]) -> None:
        """Await `prepare` with the open system before any job uses it."""
        self._preparations.append(prepare)

    @property
    def is_wanted(self) -> bool:
        """Whether the system is open or being opened."""
        return bool(len(self._opening))

    async def open(self) -> System:
        """Return the open system. Its directory for the run exists."""
        return await self._opening.get(None, self._open)

    async def _open(self) -> System:
        system = await self._system.open()
        base = self._base or posixpath.join(await system.default_workdir(), "reframe")
        self._stage_dirs.root = posixpath.join(base, self._name)
        await asyncio.gather(
            system.mkdir(self._stage_dirs.root, parents=True), *(prepare(system) for prepare in self._preparations)
        )
        return system
