"""Cleans up after a run on the system."""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
from collections.abc import Awaitable, Iterable

from crestline import clock
from crestline.client import System, Traffic
from crestline.model import NotFoundError
from crestline_reframe.connection import RunConnection
from crestline_reframe.job_runner import JobRunner
from crestline_reframe.journal import Journal, age
from crestline_reframe.stage_dirs import StageDirs
from crestline_reframe.tracked_job import TrackedJob


class RunCleanup:
    """Cancels the jobs of a run, removes its directories and those of expired runs, and closes the connection.

    Args:
        keep: whether the run's own directories stay.
        expire: days after which the directory of any run is removed.
    """

    def __init__(
        self,
        connection: RunConnection,
        journal: Journal,
        stage_dirs: StageDirs,
        runner: JobRunner,
        *,
        keep: bool,
        expire: float,
    ) -> None:
        self._connection = connection
        self._journal = journal
        self._stage_dirs = stage_dirs
        self._runner = runner
        self._keep = keep
        self._expire = expire
        self.traffic = Traffic()
        """Traffic of the run, after its clean-up."""

    async def clean_up(self, tracked_jobs: Iterable[TrackedJob]) -> None:
        """Cancel the remaining jobs, also those of an earlier process that no test has adopted, and remove the files.

        Raises:
            CrestlineError: jobs or files remain on the system.
        """
        if not self._connection.is_wanted and not self._journal.entries:
            return
        self._journal.abandoned()
        system = await self._connection.open()
        unfinished = [tracked for tracked in tracked_jobs if not tracked.ended.is_set()]
        for tracked in unfinished:
            tracked.is_cancelled = True
        try:
            failures = await _failures(
                *(self._runner.end(tracked) for tracked in unfinished),
                *(self._runner.end_left(system, entry) for entry in self._journal.entries.values()),
            )
            failures += await _failures(
                *(self._remove_run_files(system, directory) for directory in self._journal.directories),
                self._remove_expired(system, posixpath.dirname(self._stage_dirs.root)),
            )
            if failures:
                raise failures[0]
        finally:
            self.traffic = system.traffic
            await system.close()

    async def _remove_run_files(self, system: System, directory: str) -> None:
        if not self._keep:
            with contextlib.suppress(NotFoundError):
                await system.remove(posixpath.join(posixpath.dirname(self._stage_dirs.root), directory), force=True)

    async def _remove_expired(self, system: System, base: str) -> None:
        """Remove directories of runs that no run will resume."""
        for file in await system.ls(base):
            if file.is_directory and age(file.name, clock.time()) > self._expire:
                await system.remove(posixpath.join(base, file.name), force=True)


async def _failures(*attempts: Awaitable[None]) -> list[BaseException]:
    """Await all and return their errors."""
    return [each for each in await asyncio.gather(*attempts, return_exceptions=True) if each is not None]
