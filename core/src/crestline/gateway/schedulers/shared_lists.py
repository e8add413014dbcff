"""Lists of the queue that gateways on one database share: one gateway asks the scheduler, the others read its list.

The list is a row of the database with a lease. A gateway that needs a newer list acquires the lease, asks the scheduler
and writes the list. The others wait for it. If that gateway dies, its lease expires and another gateway acquires it.
Times are the database's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
from sqlalchemy import Column, ColumnElement, Double, LargeBinary, String, Table, cast, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert

from crestline import __version__, clock
from crestline.gateway.schedulers.job_cache import CachedJob
from crestline.gateway.store import Store, metadata
from crestline.model import GatewayUnavailableError

_lists = Table(
    "queue_lists",
    metadata,
    Column("name", String, primary_key=True),
    Column("begun", Double, nullable=False),
    Column("leased_until", Double, nullable=False),
    Column("content", LargeBinary),
)

_LEASE = 3.0
"""Seconds after which another gateway may ask in place of one that does not renew its lease."""

_POLL_INTERVAL = 0.1
"""Seconds between two reads of a row whose list another gateway is about to write."""

_OUTAGE = 30.0
"""Seconds without the database after it has not responded."""

_KEPT = 3600.0
"""Seconds after which a list that no gateway has renewed is deleted."""

_SLICE = 1000
"""Jobs that are encoded in one step, during which no other thread runs."""

_log = logging.getLogger("crestline.replicas")


@dataclass(frozen=True)
class _State:
    started_at: float
    leased_until: float
    now: float
    asked: float
    """Reading of `time.monotonic()` before the query of the database."""

    def local(self, when: float) -> float:
        """Convert a time of the database to `time.monotonic()`, early rather than late."""
        return self.asked - (self.now - when)


class SharedLists:
    """The lists of one system, by their owner.

    Args:
        store: a database that several gateways use.
        system: name of the system.
    """

    def __init__(self, store: Store, system: str) -> None:
        self._engine = store.engine
        self._system = system
        self._swept = clock.monotonic()
        self._alone_until = -math.inf

    async def get(
        self, user: str, owner: str | None, oldest: float, fetch: Callable[[], Awaitable[list[CachedJob]]]
    ) -> tuple[list[CachedJob], float]:
        """Return a list fetched at `oldest` or later, and when it was fetched (both readings of `time.monotonic()`).

        If the database does not respond, this gateway fetches the list itself.

        Args:
            user: POSIX user that runs the query. Users see different lists.
            owner: owner of the jobs; None: all users.
            oldest: reading of `time.monotonic()`.
            fetch: queries the scheduler.

        Raises:
            CrestlineError: as `fetch`.
        """
        name = self._name(user, owner)
        found: _State | tuple[list[CachedJob], float] | None = None
        if clock.monotonic() >= self._alone_until:
            try:
                found = await self._read_or_acquire_lease(name, oldest)
            except GatewayUnavailableError:  # the store has logged it
                self._alone_until = clock.monotonic() + _OUTAGE
        if isinstance(found, _State):
            return await self._fetch_and_publish(name, found, fetch)
        begun = clock.monotonic()
        return found or (await fetch(), begun)

    async def _read_or_acquire_lease(self, name: str, oldest: float) -> _State | tuple[list[CachedJob], float]:
        """Return the list that another gateway wrote, or the state of the row after this gateway acquired its lease."""
        while True:
            state = await self._refresh(name)
            if state.local(state.started_at) >= oldest and (content := await self._load(name, state)) is not None:
                return await asyncio.to_thread(_decode, content), state.local(state.started_at)
            if state.leased_until < state.now and await self._acquire_lease(name, state):
                return state
            await asyncio.sleep(_POLL_INTERVAL)

    def _name(self, user: str, owner: str | None) -> str:
        # The fields of another version may differ, so gateways share lists only within a version.
        return msgspec.json.encode([__version__, self._system, user, owner]).decode()

    async def _fetch_and_publish(
        self, name: str, state: _State, fetch: Callable[[], Awaitable[list[CachedJob]]]
    ) -> tuple[list[CachedJob], float]:
        renewal = asyncio.create_task(self._renew(name), name=f"lease of the queue of {self._system}")
        begun = clock.monotonic()
        values: dict[str, object] = {"leased_until": 0.0}
        try:
            entries = await fetch()
            # The lease was acquired after `state` was read, so the list is at least as new.
            values |= {"begun": state.now, "content": await asyncio.to_thread(_encode, entries)}
            return entries, begun
        finally:
            renewal.cancel()
            await asyncio.gather(renewal, return_exceptions=True)
            with suppress(GatewayUnavailableError):  # the lease expires by itself
                async with self._engine.begin() as connection:
                    await connection.execute(update(_lists).where(_lists.c.name == name).values(**values))
                    if clock.monotonic() - self._swept > _KEPT:
                        self._swept = clock.monotonic()
                        await connection.execute(delete(_lists).where(_lists.c.begun < state.now - _KEPT))

    async def _refresh(self, name: str) -> _State:
        asked = clock.monotonic()
        async with self._engine.connect() as connection:
            row = (
                await connection.execute(
                    select(_lists.c.begun, _lists.c.leased_until, _now().label("now")).where(_lists.c.name == name)
                )
            ).first()
        if row is not None:
            return _State(row.begun, row.leased_until, row.now, asked)
        async with self._engine.begin() as connection:
            new = insert(_lists).values(name=name, begun=0.0, leased_until=0.0).on_conflict_do_nothing()
            await connection.execute(new)
        return await self._refresh(name)

    async def _load(self, name: str, state: _State) -> bytes | None:
        async with self._engine.connect() as connection:
            wanted = select(_lists.c.content).where(_lists.c.name == name, _lists.c.begun >= state.started_at)
            content: bytes | None = (await connection.execute(wanted)).scalar()
        return content

    async def _acquire_lease(self, name: str, state: _State) -> bool:
        unchanged = (
            _lists.c.name == name,
            _lists.c.leased_until == state.leased_until,
            _lists.c.begun == state.started_at,
        )
        async with self._engine.begin() as connection:
            done = await connection.execute(update(_lists).where(*unchanged).values(leased_until=_now() + _LEASE))
        return done.rowcount == 1

    async def _renew(self, name: str) -> None:
        while True:
            await asyncio.sleep(_LEASE / 3)
            try:
                async with self._engine.begin() as connection:
                    renewed = update(_lists).where(_lists.c.name == name).values(leased_until=_now() + _LEASE)
                    await connection.execute(renewed)
            except GatewayUnavailableError as error:
                _log.warning("the lease of the queue of %s was not renewed: %s", self._system, error)


def _now() -> ColumnElement[float]:
    return cast(func.extract("epoch", func.clock_timestamp()), Double)


def _encode(entries: list[CachedJob]) -> bytes:
    slices = range(0, len(entries), _SLICE)
    return msgspec.msgpack.encode(
        [zlib.compress(msgspec.msgpack.encode(entries[start : start + _SLICE]), 1) for start in slices]
    )


def _decode(content: bytes) -> list[CachedJob]:
    decoder = msgspec.msgpack.Decoder(list[CachedJob])
    entries: list[CachedJob] = []
    for part in msgspec.msgpack.decode(content, type=list[bytes]):
        entries += decoder.decode(zlib.decompress(part))
    return entries
