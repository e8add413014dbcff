"""Exactly-once submission: the `Idempotency-Key` of `POST /compute/{system}/jobs`."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from sqlalchemy import Column, ColumnElement, Float, Row, String, Table, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from crestline import clock
from crestline.gateway import metrics
from crestline.gateway.replicas import Replicas
from crestline.gateway.schedulers.base import Scheduler, each_of
from crestline.gateway.store import Store, metadata
from crestline.model import ConflictError, CrestlineError, GatewayUnavailableError, InvalidRequestError
from crestline.wire.codec import encode
from crestline.wire.compute import JobDescription
from crestline.wire.extensions import SubmissionAnswer

_submissions = Table(
    "submissions",
    metadata,
    Column("system", String, primary_key=True),
    Column("username", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("job_id", String),
    Column("created", Float, nullable=False, index=True),
    Column("owner", String),
)

_RETENTION = 30 * 86400
"""Seconds for which a key is kept."""

_WAIT = 10.0
"""Seconds for which a replica waits for another one that works on the same key."""

_GIVEN_UP = 120.0
"""Seconds after which no replica works on a key any more, with a margin for differing clocks."""


class Submissions:
    """Submissions to one system.

    A key is stored before the job is sent to the scheduler, and the job id after that. So a crash in between leaves a
    key without an id. The scheduler, which stores the key with the job, then shows whether the job exists. Of several
    replicas, the one that stored the key works on it until it is done or dead.
    """

    def __init__(self, store: Store, system: str, scheduler: Scheduler, replicas: Replicas) -> None:
        self._engine = store.engine
        self._replicas = replicas
        self._system = system
        self._scheduler = scheduler
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    async def submit(self, username: str, job: JobDescription, key: str | None) -> str:
        """Submit a job and return its id; with a key that was used before, return the id of the first job.

        Raises:
            ConflictError: the key was used with another job description.
            InvalidRequestError: the key is empty, longer than 255 characters or not printable ASCII.
        """
        if key is None:
            return await self._counted(self._scheduler.submit(username, job))
        if not _is_key(key):
            raise InvalidRequestError(
                "The Idempotency-Key is not a key.", hint="Send 1 to 255 printable ASCII characters, unique to the job."
            )
        lock = self._locks.setdefault((username, key), asyncio.Lock())
        async with lock:
            return await self._submit_once(username, job, key)

    async def find(self, username: str, key: str) -> SubmissionAnswer:
        """Return whether `username` has used the key here, and for which job."""
        known = await self._find_job(self._row(username, key))
        return SubmissionAnswer(known=known is not None, job_id=known.job_id if known is not None else None)

    async def submit_many(
        self, username: str, jobs: Sequence[tuple[JobDescription, str | None]]
    ) -> list[str | CrestlineError]:
        """Submit each job as `submit` does, in one batch, and return ids and errors in the same order."""
        outcomes: dict[int, str | CrestlineError] = {}
        keys = {key: number for number, (_, key) in reversed(list(enumerate(jobs))) if key is not None and _is_key(key)}
        async with AsyncExitStack() as stack:
            for key in sorted(keys):  # in a fixed order, so that two batches never wait for each other
                lock = self._locks.setdefault((username, key), asyncio.Lock())
                await stack.enter_async_context(lock)
            new = await self._remember_many(username, {key: jobs[number][0] for key, number in keys.items()})
            together = sorted([keys[key] for key in new] + [n for n, (_, key) in enumerate(jobs) if key is None])
            if together:
                found = await self._scheduler.submit_many(username, [jobs[number] for number in together])
                outcomes |= zip(together, found, strict=True)
                await self._record_many(username, [(jobs[number][1], outcomes[number]) for number in together])
        # Keys that were used before, appear twice in this batch, or are invalid: one by one.
        rest = [number for number in range(len(jobs)) if number not in outcomes]
        outcomes |= zip(rest, await each_of(rest, lambda number: self.submit(username, *jobs[number])), strict=True)
        return [outcomes[number] for number in range(len(jobs))]

    async def _remember_many(self, username: str, jobs: Mapping[str, JobDescription]) -> list[str]:
        """Store new keys and return them."""
        mine = (_submissions.c.system == self._system) & (_submissions.c.username == username)
        try:
            async with self._engine.begin() as connection:
                asked = select(_submissions.c.key).where(mine & _submissions.c.key.in_(list(jobs)))
                known = set((await connection.execute(asked)).scalars())
                rows = [self._new(username, key, _fingerprint(job)) for key, job in jobs.items() if key not in known]
                if rows:
                    await connection.execute(insert(_submissions), rows)
        except IntegrityError:  # another replica has stored one of them meanwhile
            return []
        return [str(row["key"]) for row in rows]

    async def _record_many(self, username: str, found: Sequence[tuple[str | None, str | CrestlineError]]) -> None:
        """Store the results of new keys, as `submit` does."""
        mine = (_submissions.c.system == self._system) & (_submissions.c.username == username)
        this = mine & (_submissions.c.key == bindparam("this"))
        ids = [{"this": key, "id": each} for key, each in found if key is not None and isinstance(each, str)]
        failed = [(key, each) for key, each in found if key is not None and isinstance(each, CrestlineError)]
        unknown = [{"this": key} for key, each in failed if isinstance(each, GatewayUnavailableError)]
        refused = [{"this": key} for key, each in failed if not isinstance(each, GatewayUnavailableError)]
        async with self._engine.begin() as connection:
            if ids:
                await connection.execute(update(_submissions).where(this).values(job_id=bindparam("id")), ids)
            if refused:
                await connection.execute(delete(_submissions).where(this), refused)
            if unknown:  # the next call queries the scheduler first, on any replica
                await connection.execute(update(_submissions).where(this).values(owner=None), unknown)
        for _, each in found:
            if isinstance(each, str):
                self._count("submitted")
            else:
                self._count("unknown" if isinstance(each, GatewayUnavailableError) else "refused")

    async def _submit_once(self, username: str, job: JobDescription, key: str) -> str:
        fingerprint = _fingerprint(job)
        row = self._row(username, key)
        known = await self._claim(row, username, key, fingerprint)
        if known is not None and known.fingerprint != fingerprint:
            raise ConflictError(
                "This Idempotency-Key was used for another job.", hint="Use a new key for a new job description."
            )
        if known is not None and known.job_id is not None:
            self._count("repeated")
            return str(known.job_id)
        try:
            return await self._settle(row, username, job, key, is_new=known is None)
        except GatewayUnavailableError:
            # The outcome is unknown: the key stays, and the next call queries the scheduler first, on any replica.
            await self._release(row)
            raise

    async def _settle(
        self, row: ColumnElement[bool], username: str, job: JobDescription, key: str, *, is_new: bool
    ) -> str:
        """Find the job of a key that this replica works on, or submit it, and store its id."""
        if not is_new:  # after a crash, or an answer that was lost, the scheduler knows the outcome
            found = await self._scheduler.find(username, key)
            if found is not None:
                await self._record(row, found)
                self._count("repeated")
                return found
        try:
            job_id = await self._counted(self._scheduler.submit(username, job, key))
        except GatewayUnavailableError:
            raise
        except CrestlineError:
            await self._engine.change(delete(_submissions).where(row))
            raise
        await self._record(row, job_id)
        return job_id

    async def _claim(self, row: ColumnElement[bool], username: str, key: str, fingerprint: str) -> Row[Any] | None:
        """Claim the key for this replica.

        Returns:
            The previous row, or None for a new key. In a row without a job id, the outcome of an earlier attempt is
            unknown.

        Raises:
            GatewayUnavailableError: another replica still works on the key.
        """
        deadline = clock.monotonic() + _WAIT
        while True:
            known = await self._find_job(row)
            if known is None:
                if await self._remember(username, key, fingerprint):
                    return None
                continue
            if known.job_id is not None or known.fingerprint != fingerprint:
                return known
            if known.owner == self._replicas.id:  # of an earlier call, which has released the lock
                return known
            given_up = known.created < clock.time() - _GIVEN_UP or await self._replicas.is_dead(known.owner)
            if given_up and await self._take_over(row, known):
                return known
            if clock.monotonic() > deadline:
                raise GatewayUnavailableError(
                    "A submission with this Idempotency-Key is under way.",
                    hint="Repeat it with the same key.",
                    retry_after=1,
                )
            await asyncio.sleep(0.1)

    def _row(self, username: str, key: str) -> ColumnElement[bool]:
        return (
            (_submissions.c.system == self._system)
            & (_submissions.c.username == username)
            & (_submissions.c.key == key)
        )

    async def _find_job(self, row: ColumnElement[bool]) -> Row[Any] | None:
        return await self._engine.row(select(_submissions).where(row))

    async def _remember(self, username: str, key: str, fingerprint: str) -> bool:
        """Store a new key; return False if another request has just done so."""
        old = _submissions.c.created < clock.time() - _RETENTION
        try:
            async with self._engine.begin() as connection:
                await connection.execute(delete(_submissions).where(old))
                await connection.execute(insert(_submissions).values(self._new(username, key, fingerprint)))
        except IntegrityError:
            return False
        return True

    def _new(self, username: str, key: str, fingerprint: str) -> dict[str, object]:
        """Return the row of a key that this replica works on."""
        return {
            "system": self._system,
            "username": username,
            "key": key,
            "fingerprint": fingerprint,
            "created": clock.time(),
            "owner": self._replicas.id,
        }

    async def _take_over(self, row: ColumnElement[bool], known: Row[Any]) -> bool:
        """Take a key over from a dead replica; return False if another gateway was faster."""
        before = _submissions.c.owner.is_not_distinct_from(known.owner) & _submissions.c.job_id.is_(None)
        mine = update(_submissions).where(row, before).values(owner=self._replicas.id, created=clock.time())
        return bool(await self._engine.change(mine))

    async def _release(self, row: ColumnElement[bool]) -> None:
        try:
            await self._engine.change(update(_submissions).where(row).values(owner=None))
        except GatewayUnavailableError:
            return  # it expires by its age

    async def _counted(self, submission: Awaitable[str]) -> str:
        try:
            job_id = await submission
        except GatewayUnavailableError:
            self._count("unknown")
            raise
        except CrestlineError:
            self._count("refused")
            raise
        self._count("submitted")
        return job_id

    def _count(self, outcome: str) -> None:
        metrics.SUBMISSIONS.labels(self._system, outcome).inc()

    async def _record(self, row: ColumnElement[bool], job_id: str) -> None:
        await self._engine.change(update(_submissions).where(row).values(job_id=job_id))


def _is_key(text: str) -> bool:
    return 0 < len(text) <= 255 and text.isascii() and text.isprintable()


def _fingerprint(job: JobDescription) -> str:
    return hashlib.sha256(encode(job)).hexdigest()
