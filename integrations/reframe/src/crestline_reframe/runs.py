"""A run on one system, as ReFrame's thread sees it: jobs are handed over, and their state is read.

Everything that waits happens in an event loop in a thread beside it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from crestline.client import System, connect
from crestline.model import CrestlineError
from crestline_reframe.cleanup import RunCleanup
from crestline_reframe.connection import RunConnection
from crestline_reframe.job_runner import JobRunner
from crestline_reframe.journal import Journal
from crestline_reframe.options import Options
from crestline_reframe.stage_dirs import StageDirs
from crestline_reframe.submission import Submitter
from crestline_reframe.tracked_job import TrackedJob
from crestline_reframe.transfers import StageTransfers

T = TypeVar("T")
logger = logging.getLogger(__name__)

_CLEANUP_TIMEOUT = 60.0
"""seconds for cleaning up at the end of a run"""
_CANCEL_TIMEOUT = 2.0
"""seconds for the clean-up of tasks that are cancelled when the event loop stops"""


class Run:
    """One system of one ReFrame process.

    Args:
        prefix: ReFrame's prefix, for the journal.
        stage_prefix: where the stage directories are.
        keep: whether the run's directory stays on the system.
        loop: an event loop that runs already; None: one in a thread of its own.
    """

    def __init__(
        self,
        options: Options,
        prefix: Path,
        stage_prefix: Path,
        *,
        keep: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.options = options
        site, name, authorizer = options.target()
        system = connect(site, system=name, policy=options.policy(), authorizer=authorizer)
        self._journal = Journal.open(prefix, f"{site.url} {name or ''} {options.base() or ''}")
        self.stage_dirs = StageDirs(stage_prefix)
        for entry in self._journal.entries.values():
            self.stage_dirs.reserve(entry.remote)
        self._tracked_jobs: list[TrackedJob] = []
        self._connection = RunConnection(system, options.base(), self.name, self.stage_dirs)
        transfers = StageTransfers(self._connection, self._journal, self.stage_dirs, self._is_last_running)
        submitter = Submitter(options, self._connection, self._journal, self.stage_dirs)
        self._runner = JobRunner(self._connection, self._journal, self.stage_dirs, transfers, submitter)
        self._cleanup = RunCleanup(
            self._connection, self._journal, self.stage_dirs, self._runner, keep=keep, expire=options.expire
        )
        self._loop = loop or asyncio.new_event_loop()
        if loop is None:
            self._thread = threading.Thread(target=self._loop.run_forever, name="crestline-reframe", daemon=True)
            self._thread.start()

    def add(self, tracked: TrackedJob) -> None:
        """Run a job; returns at once."""
        self._tracked_jobs.append(tracked)
        self._start(self._runner.run(tracked))

    def cancel(self, tracked: TrackedJob) -> None:
        """Begin to cancel a job; returns at once."""
        if not tracked.is_cancelled:
            tracked.is_cancelled = True
            self._start(self._runner.cancel(tracked))

    def cancel_all(self) -> None:
        """Begin to cancel all jobs that have not ended; returns at once."""
        for tracked in self._tracked_jobs:
            if not tracked.ended.is_set():
                self.cancel(tracked)

    def call(self, request: Callable[[System], Coroutine[Any, Any, T]]) -> T:
        """Await a request to the system, and return its answer.

        Raises:
            CrestlineError: what the client raises.
        """

        async def answer() -> T:
            return await request(await self._connection.open())

        return self._start(answer()).result()

    def scheduler_type(self) -> str:
        """Return `slurm` or `pbs`: what the options say, else what the gateway says."""
        if self.options.scheduler is not None:
            return self.options.scheduler
        return self.call(_scheduler_type)

    def connect(self) -> None:
        """Open the connection while ReFrame prepares the first tests; returns at once."""
        if not self._connection.is_wanted:
            self._start(self._connection.open())

    @property
    def tracked_jobs(self) -> Iterator[TrackedJob]:
        """All jobs that were added, in their order."""
        return iter(self._tracked_jobs)

    @property
    def traffic(self) -> dict[str, int]:
        """Requests and bytes of the run, once it is closed."""
        traffic = self._cleanup.traffic
        return {"requests": traffic.requests, "bytes_sent": traffic.sent, "bytes_received": traffic.received}

    @property
    def name(self) -> str:
        """The run, as its directory on the system is called."""
        return self._journal.directories[-1]

    def close(self, timeout: float = _CLEANUP_TIMEOUT) -> None:
        """Cancel what still runs and remove the files on the system; if time is too short, the journal stays."""
        try:
            self._start(self.finish(timeout)).result()
        finally:
            self._start(_end_tasks()).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def finish(self, timeout: float) -> None:
        """As `close`, but for the event loop, which goes on."""
        problem = ""
        try:
            async with asyncio.timeout(timeout):
                await self._cleanup.clean_up(self._tracked_jobs)
        except CrestlineError as error:
            problem = str(error) or type(error).__name__
        except TimeoutError:
            problem = f"the gateway did not complete that within {timeout:.0f} s"
        else:
            self._journal.close()
        if problem:
            logger.warning(
                "run %s could not be cleaned up on the system: %s. The next run with this prefix does it.",
                self.name,
                problem,
            )
            self._journal.release()

    def _is_last_running(self, batch: list[TrackedJob]) -> bool:
        """Whether no other job is on its way to its end."""
        return len(batch) >= sum(
            1 for tracked in self._tracked_jobs if not tracked.results_fetched and not tracked.ended.is_set()
        )

    def _start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)


async def _end_tasks() -> None:
    """Cancel all other tasks of the event loop, and wait for their clean-up for a moment."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT)


async def _scheduler_type(system: System) -> str:
    return system.scheduler_type
