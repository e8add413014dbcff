"""Runs each job of a run from its files to its results, in the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets

from crestline.client import System
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    Job,
    JobNotFoundError,
    JobState,
    NotFoundError,
    UnsupportedError,
)
from crestline_reframe.connection import RunConnection
from crestline_reframe.journal import Journal, JournalEntry
from crestline_reframe.stage_dirs import StageDirs
from crestline_reframe.staging import fingerprint
from crestline_reframe.submission import Submitter
from crestline_reframe.tracked_job import TrackedJob
from crestline_reframe.transfers import StageTransfers

logger = logging.getLogger(__name__)

_MAX_CANCELLATIONS = 8
"""Maximum number of cancellations at the same time."""


class JobRunner:
    """Runs jobs: stages, submits and follows them, and fetches their results; or resumes or cancels them."""

    def __init__(
        self,
        connection: RunConnection,
        journal: Journal,
        stage_dirs: StageDirs,
        transfers: StageTransfers,
        submitter: Submitter,
    ) -> None:
        self._connection = connection
        self._journal = journal
        self._stage_dirs = stage_dirs
        self._transfers = transfers
        self._submitter = submitter
        self._cancellations = asyncio.Semaphore(_MAX_CANCELLATIONS)

    async def run(self, tracked: TrackedJob) -> None:
        """Run or resume a job until its results or its error. Never raises."""
        try:
            await self._connection.open()
            what = await asyncio.to_thread(fingerprint, tracked, self._stage_dirs)
            if not await self._is_resumed(tracked, what):
                await self._transfers.uploads.add(tracked)
                await self._submit_and_follow(tracked)
                if not tracked.is_key_new and (problem := _problem(tracked)):
                    self._begin_again(tracked, what, problem)
                    await self._submit_and_follow(tracked)
        except JobNotFoundError as error:
            tracked.end(f"the scheduler does not know the job any more: {error}")
        except CrestlineError as error:
            tracked.end(str(error))
        except OSError as error:
            tracked.end(f"on this machine: {error}")
        except Exception as error:
            logger.exception("running %s failed", tracked.test)
            tracked.end(f"{type(error).__name__}: {error}")
        else:
            tracked.end()

    async def _submit_and_follow(self, tracked: TrackedJob) -> None:
        """Submit a job when the scheduler accepts it, and wait for its end."""
        while True:
            await self._submitter.limit.acquire(tracked.nodes)
            tracked.was_refused = False
            try:
                if not tracked.is_cancelled:
                    await self._submitter.submissions.add(tracked)
                if tracked.job is not None:
                    await self._watch(tracked)
            finally:
                if not tracked.was_refused:  # otherwise the limit no longer counts it
                    self._submitter.limit.release(tracked.nodes)
            if tracked.job is not None:
                await self._transfers.downloads.add(tracked)
            if not tracked.was_refused or tracked.is_cancelled:
                return

    async def _is_resumed(self, tracked: TrackedJob, what: str) -> bool:
        """Whether the job of an earlier process provided the results. If not, the job has a key for a submission."""
        entry = self._resumable_entry(tracked, what)
        if entry is None:
            self._begin(tracked, what)
            return False
        del self._journal.entries[entry.test, entry.phase]
        is_own_place = not tracked.stage_dir.is_there
        tracked.stage_dir.remote = entry.remote
        tracked.key, tracked.is_key_new = entry.key, False
        if entry.job_id is None:
            tracked.is_packable = False
            return False
        tracked.stage_dir.is_there = True
        await asyncio.to_thread(self._transfers.staging.is_unchanged, tracked)
        tracked.accepted(Job(job_id=entry.job_id, state=JobState.SUBMITTED))
        problem = await self._problem_of_resumed(tracked)
        if not problem:
            return True
        if is_own_place:
            self._stage_dirs.renew(tracked.stage_dir)
        self._begin_again(tracked, what, problem)
        return False

    async def _problem_of_resumed(self, tracked: TrackedJob) -> str:
        """Follow the job of an earlier process to its end, and return why it cannot be used for the test, if so."""
        try:
            await self._follow(tracked)
        except GatewayUnavailableError:
            raise
        except CrestlineError as error:
            return f"cannot be used ({error})"
        return _problem(tracked)

    def _begin_again(self, tracked: TrackedJob, what: str, problem: str) -> None:
        """Give a test a new key if the job of an earlier process cannot be used for it."""
        job_id = tracked.job.job_id if tracked.job is not None else "?"
        logger.warning("%s runs again: job %s of an earlier run %s", tracked.test, job_id, problem)
        tracked.reset()
        self._begin(tracked, what)

    def _begin(self, tracked: TrackedJob, what: str) -> None:
        tracked.key, tracked.is_key_new = f"reframe/{self._journal.run}/{secrets.token_hex(8)}", True
        self._journal.begins(tracked.key, tracked.test, tracked.phase, what, tracked.stage_dir.remote)

    def _resumable_entry(self, tracked: TrackedJob, what: str) -> JournalEntry | None:
        """Return the job that an earlier process started for the same test, if the test had not ended."""
        entry = self._journal.entries.get((tracked.test, tracked.phase))
        if entry is None or entry.fingerprint != what or entry.is_abandoned:
            return None
        if entry.is_packed and entry.job_id is None:
            return None
        last = self._journal.entries.get((tracked.test, "run"))
        if last is not None and last.is_collected:
            return None
        return entry if not tracked.stage_dir.is_there or tracked.stage_dir.remote == entry.remote else None

    async def _follow(self, tracked: TrackedJob) -> None:
        """Wait for a job's end and collect its results."""
        await self._watch(tracked)
        await self._transfers.downloads.add(tracked)

    async def _watch(self, tracked: TrackedJob) -> None:
        """Wait for a job's end."""
        if tracked.is_cancelled:
            await self.cancel(tracked)
        async with contextlib.aclosing((await self._connection.open()).watch(tracked.job)) as events:
            async for event in events:
                tracked.update(event)

    async def cancel(self, tracked: TrackedJob) -> None:
        """Cancel a job; a failure is logged."""
        try:
            await self.end(tracked)
        except CrestlineError as error:
            logger.warning("the job of %s could not be cancelled: %s", tracked.test, error)

    async def end(self, tracked: TrackedJob) -> None:
        """Cancel a job.

        Raises:
            CrestlineError: the cancellation failed.
        """
        try:
            if tracked.key:
                self._journal.abandoned(tracked.key)
            if tracked.is_submitting:
                await tracked.settled.wait()
            if tracked.job is not None and not tracked.ended.is_set():
                async with self._cancellations:
                    await self._cancel_job(await self._connection.open(), tracked, tracked.job)
        finally:
            tracked.released.set()

    async def end_left(self, system: System, entry: JournalEntry) -> None:
        """Cancel the job of an earlier process that no test has adopted."""
        if entry.job_id is not None and not entry.is_collected:
            async with self._cancellations:
                with contextlib.suppress(NotFoundError):
                    await system.cancel(entry.job_id)

    async def _cancel_job(self, system: System, tracked: TrackedJob, job: Job) -> None:
        if tracked.pack is None:
            await system.cancel(job)
        elif tracked.pack.is_unwanted:
            await system.cancel(tracked.pack.job_id)
        elif tracked.pack.kind == "array":
            with contextlib.suppress(UnsupportedError):  # plain FirecREST cancels only whole arrays
                await system.cancel(job)


def _problem(tracked: TrackedJob) -> str:
    """Return why the job of an earlier process cannot be used for the test, if so."""
    if tracked.is_cancelled or tracked.job is None:
        return ""
    if tracked.job.state is JobState.CANCELLED:
        return "was cancelled"
    return "" if tracked.has_files else "left no files"
