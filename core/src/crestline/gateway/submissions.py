"""Submissions that happen once: the `Idempotency-Key` of `POST /compute/{system}/jobs`."""

from __future__ import annotations

import asyncio
import hashlib
import time
import weakref

from sqlalchemy import Column, ColumnElement, Float, String, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from crestline.gateway.schedulers import Scheduler
from crestline.gateway.store import Store, metadata
from crestline.model import ConflictError, CrestlineError, GatewayUnavailableError, InvalidRequestError
from crestline.wire.codec import encode
from crestline.wire.compute import JobDescription

_submissions = Table(
    "submissions",
    metadata,
    Column("system", String, primary_key=True),
    Column("username", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("job_id", String),
    Column("created", Float, nullable=False, index=True),
)

_RETENTION = 30 * 86400
"""seconds that a key is remembered"""


class Submissions:
    """Submissions to one system.

    A key is written down before the scheduler hears of the job and the job id after, so a crash in between leaves a key
    without an id; the scheduler itself, which keeps the key with the job, then says whether the job exists.
    """

    def __init__(self, store: Store, system: str, scheduler: Scheduler) -> None:
        self._engine = store.engine
        self._system = system
        self._scheduler = scheduler
        self._locks: weakref.WeakValueDictionary[tuple[str, str], asyncio.Lock] = weakref.WeakValueDictionary()

    async def submit(self, username: str, job: JobDescription, key: str | None) -> str:
        """Submit and return the job id; with a key that was used before, the id it got then.

        Raises:
            ConflictError: the key was used with another job description.
            InvalidRequestError: the key is empty, longer than 255 characters or not printable ASCII.
        """
        if key is None:
            return await self._scheduler.submit(username, job)
        if not key or len(key) > 255 or not (key.isascii() and key.isprintable()):
            raise InvalidRequestError(
                "The Idempotency-Key is no key.", hint="Send 1 to 255 printable ASCII characters, unique to the job."
            )
        lock = self._locks.setdefault((username, key), asyncio.Lock())
        async with lock:
            return await self._submit_once(username, job, key)

    async def _submit_once(self, username: str, job: JobDescription, key: str) -> str:
        fingerprint = hashlib.sha256(encode(job)).hexdigest()
        row = (
            (_submissions.c.system == self._system)
            & (_submissions.c.username == username)
            & (_submissions.c.key == key)
        )
        async with self._engine.connect() as connection:
            known = (await connection.execute(select(_submissions).where(row))).first()
        if known is None:
            await self._remember(username, key, fingerprint)
        elif known.fingerprint != fingerprint:
            raise ConflictError(
                "This Idempotency-Key was used for another job.", hint="Use a new key for a new job description."
            )
        elif known.job_id is not None:
            return str(known.job_id)
        else:  # a crash, or an answer that never came: the scheduler knows
            found = await self._scheduler.find(username, key)
            if found is not None:
                await self._record(row, found)
                return found
        try:
            job_id = await self._scheduler.submit(username, job, key)
        except GatewayUnavailableError:
            raise  # the outcome is open: the key stays, and the next call looks first
        except CrestlineError:
            async with self._engine.begin() as connection:
                await connection.execute(delete(_submissions).where(row))
            raise
        await self._record(row, job_id)
        return job_id

    async def _remember(self, username: str, key: str, fingerprint: str) -> None:
        now = time.time()
        try:
            async with self._engine.begin() as connection:
                await connection.execute(delete(_submissions).where(_submissions.c.created < now - _RETENTION))
                await connection.execute(
                    insert(_submissions).values(
                        system=self._system, username=username, key=key, fingerprint=fingerprint, created=now
                    )
                )
        except IntegrityError as error:
            raise ConflictError(
                "A submission with this Idempotency-Key is under way.", hint="Repeat it in a moment.", retry_after=1
            ) from error

    async def _record(self, row: ColumnElement[bool], job_id: str) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(update(_submissions).where(row).values(job_id=job_id))
