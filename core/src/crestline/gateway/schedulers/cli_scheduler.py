"""The common part of schedulers with a command-line interface: shared status queries, and lookup of submissions by
key."""

from __future__ import annotations

import abc
import asyncio
import hashlib
import logging
import re
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from crestline.gateway.schedulers.base import JobList, JobQuery, Scheduler, each_of
from crestline.gateway.schedulers.job_cache import JobSource, ListSharing
from crestline.gateway.schedulers.job_views import JobViews
from crestline.gateway.schedulers.programs import ProgramOptions
from crestline.model import (
    CrestlineError,
    GatewayUnavailableError,
    JobNotFoundError,
    PermissionDeniedError,
    normalize_state,
)
from crestline.model.text import printable
from crestline.single_flight import SingleFlight
from crestline.wire.compute import JobDescription, JobInfo

_log = logging.getLogger(__name__)

_SITE_AGE = 3600.0
"""Seconds after which the version and configuration of the scheduler are read again."""

_LONGEST_VERSION = 64

_OPEN_KEPT = 3600.0
"""Seconds for which a submission without an answer is kept after its command has ended."""


class Site(Protocol):
    """What a scheduler reports about itself."""

    @property
    def version(self) -> str:
        """Version of its software."""


SiteT = TypeVar("SiteT", bound=Site)


class CommandScheduler(Scheduler, Generic[SiteT]):
    """A scheduler with a command-line interface.

    Args:
        name: name of the system.
        source: source of the job lists.
        options: the site's options for the scheduler.
        order: sort key of a job id.
    """

    def __init__(
        self, name: str, source: JobSource, options: ProgramOptions, order: Callable[[str], tuple[int, ...]]
    ) -> None:
        self.name = name
        self.version = "unknown"
        self._observer = options.observer
        self._max_age = options.max_age
        self._submit_timeout = options.submit_timeout
        self._views = JobViews(source, options, order)
        # Read for each user separately: without an observer account, the user's login determines which programs run.
        self._sites: dict[str, SiteT] = {}
        self._site_read: SingleFlight[str, SiteT] = SingleFlight(ttl=_SITE_AGE)
        self._open: dict[tuple[str, str], float] = {}
        """(user, tag) of submissions without an answer -> reading of `time.monotonic()` at which their command has
        ended."""

    def share_lists(self, sharing: ListSharing) -> None:
        """Share the lists of the queue with other gateways. Called before `start`."""
        self._views.sharing = sharing

    async def start(self) -> None:
        if self._observer is not None:
            try:
                await self._site(self._observer)
            except (GatewayUnavailableError, PermissionDeniedError) as error:
                _log.warning("The scheduler of %s: %s %s", self.name, error, list(error.details))

    async def stop(self) -> None:
        await self._views.close()
        await self._site_read.drain()

    async def submit(self, user: str, job: JobDescription, key: str | None = None) -> str:
        tag = key_tag(key or uuid.uuid4().hex)
        now = time.monotonic()
        self._open = {each: end for each, end in self._open.items() if end > now - _OPEN_KEPT}
        self._open[user, tag] = now + self._submit_timeout + 1
        try:
            job_id = await self._submit(checked_user(user), job, tag)
        finally:
            self._views.change(user)
        del self._open[user, tag]
        return job_id

    async def submit_many(
        self, user: str, jobs: Sequence[tuple[JobDescription, str | None]]
    ) -> list[str | CrestlineError]:
        tagged = [(job, key_tag(key or uuid.uuid4().hex)) for job, key in jobs]
        now = time.monotonic()
        self._open = {each: end for each, end in self._open.items() if end > now - _OPEN_KEPT}
        ended = now + self._submission_timeout(len(tagged)) + 1
        self._open |= {(user, tag): ended for _, tag in tagged}
        try:
            outcomes = await self._submit_many(checked_user(user), tagged)
        finally:
            self._views.change(user)
        for (_, tag), outcome in zip(tagged, outcomes, strict=True):
            if isinstance(outcome, str):
                del self._open[user, tag]
        return outcomes

    def _submission_timeout(self, count: int) -> float:
        """Return the seconds after which the commands of `count` submissions have ended."""
        return self._submit_timeout * count

    async def _submit_many(self, user: str, jobs: Sequence[tuple[JobDescription, str]]) -> list[str | CrestlineError]:
        """Submit each pair of job and tag as `_submit` does."""
        return await each_of(jobs, lambda job: self._submit(user, *job))

    async def find(self, user: str, key: str) -> str | None:
        tag = key_tag(key)
        found = await self._find(checked_user(user), tag)
        if found is None:
            # The command may still be running: ours, that of a killed gateway, or that of another replica.
            now = time.monotonic()
            if (left := self._open.setdefault((user, tag), now + self._submit_timeout + 1) - now) > 0:
                raise GatewayUnavailableError(
                    "An earlier attempt of this submission may still arrive.",
                    hint="Repeat it with the same key.",
                    retry_after=left,
                )
            await asyncio.sleep(self._max_age)  # the scheduler may have accepted the job after it answered this query
            found = await self._find(user, tag)
        return found

    async def jobs(self, user: str, query: JobQuery) -> JobList:
        return await self._jobs(user, query)

    async def cancel(self, user: str, job_id: str) -> None:
        jobs = await self._find_listed(user, job_id)
        if all(normalize_state(job.status.state, job.status.exit_code).is_terminal for job in jobs):
            _require_owner(jobs, user, job_id)
            return
        try:
            await self._cancel(user, job_id, jobs)
        finally:
            self._views.change(user)

    @abc.abstractmethod
    async def _read_site(self, user: str) -> SiteT:
        """Read version and configuration from the scheduler."""

    async def _site(self, user: str) -> SiteT:
        """Return version and configuration of the scheduler, read within the last hour or before it stopped responding.

        Raises:
            GatewayUnavailableError: the scheduler has never responded.
        """
        asker = self._observer or user
        try:
            self._sites[asker] = await self._site_read.get(asker, lambda: self._read_site(asker))
        except GatewayUnavailableError:
            if asker not in self._sites:
                raise
        site = self._sites[asker]
        if self._observer is not None:  # a user's own login can return anything, and other users would read it
            self.version = printable(site.version)[:_LONGEST_VERSION]
        return site

    @abc.abstractmethod
    async def _cancel(self, user: str, job_id: str, jobs: Sequence[JobInfo]) -> None:
        """Cancel a job, or an array with the tasks `jobs`. Jobs that have ended meanwhile do not change."""

    @abc.abstractmethod
    async def _submit(self, user: str, job: JobDescription, tag: str) -> str:
        """Submit a job with the tag and return its id."""

    @abc.abstractmethod
    async def _find(self, user: str, tag: str) -> str | None:
        """Query the scheduler for the job of `user` with the tag and return its id, or None.

        Raises:
            GatewayUnavailableError: a source that may list the job does not respond.
        """

    @abc.abstractmethod
    async def _full_id(self, user: str, job_id: str) -> str | None:
        """Return the id in the form of job lists, or None if it cannot be a job id."""

    async def _hides_other_users(self, user: str) -> bool:
        """Whether the scheduler hides users' jobs from each other. An observer account does not notice that."""
        return False

    async def _jobs(self, user: str, query: JobQuery, *, now: bool = False) -> JobList:
        if query.ids is not None:
            ids = [await self._full_id(user, each) for each in query.ids]
            query = msgspec.structs.replace(query, ids=tuple(each for each in ids if each is not None))
            if not query.ids:
                return JobList()
        own_only = self._observer is not None and await self._hides_other_users(user)
        return await self._views.jobs(checked_user(user), query, now=now, own_only=own_only)

    async def _find_listed(self, user: str, job_id: str) -> list[JobInfo]:
        """Return the job or the tasks of the array. If it is unknown, query the scheduler again before raising an
        error."""
        query = JobQuery(ids=(job_id,), all_users=True)
        jobs = await self._jobs(user, query) or await self._jobs(user, query, now=True)
        if not jobs:
            raise JobNotFoundError("Job not found.", hint="Check the id.")
        return jobs

    async def _find_own(self, user: str, job_id: str) -> list[JobInfo]:
        """As `_find_listed`, and raise an error if the job belongs to another user."""
        jobs = await self._find_listed(user, job_id)
        _require_owner(jobs, user, job_id)
        return jobs


def _require_owner(jobs: Sequence[JobInfo], user: str, job_id: str) -> None:
    if any(job.user != user for job in jobs):
        raise PermissionDeniedError(f"Job {job_id} belongs to another user.", hint="Ask its owner.")


def key_tag(key: str) -> str:
    """Return the tag that a job with this key carries."""
    return "crestline:" + hashlib.sha256(key.encode()).hexdigest()[:40]


def checked_user(user: str) -> str:
    """Return `user` if the scheduler's programs take it for exactly one user.

    Raises:
        PermissionDeniedError: invalid user name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.][A-Za-z0-9_.@+-]*\$?", user, re.ASCII):
        raise PermissionDeniedError("Your user name cannot be a user of this system.", hint="Ask the operator.")
    return user
