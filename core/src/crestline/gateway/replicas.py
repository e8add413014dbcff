"""Tracks which of the gateways on one database are alive.

Each gateway increments its heartbeat in the database. A gateway considers another one dead if that heartbeat has not
changed for long while the database responded. Clocks of other machines are not compared, and an outage of the database
marks no gateway as dead.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

from sqlalchemy import BigInteger, Column, String, Table, delete, insert, select, update

from crestline.clock import monotonic
from crestline.gateway.store import Store, metadata
from crestline.model import GatewayUnavailableError

_replicas = Table(
    "replicas",
    metadata,
    Column("replica_id", String, primary_key=True),
    Column("beat", BigInteger, nullable=False),
)

_FORGOTTEN = 600.0
"""Seconds without a heartbeat after which a replica's row is deleted."""

_log = logging.getLogger("crestline.replicas")


class Replicas:
    """This gateway among those on its database.

    Args:
        store: the database.
        beat: seconds between two heartbeats.
        patience: seconds without a heartbeat after which a replica is dead.
        clock: as `time.monotonic`.
    """

    def __init__(
        self,
        store: Store,
        *,
        beat: float = 2.0,
        patience: float = 10.0,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.id = uuid.uuid4().hex
        """Id of this process, not of its state directory: it changes after a restart."""
        self._store = store
        self._beat = beat
        self._patience = patience
        self._clock = clock
        self._last_heartbeats: dict[str, tuple[int, float]] = {}
        """Replica -> its last heartbeat, and when that was first seen."""
        self._watching = True
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the heartbeat, unless the database cannot be shared."""
        if self._store.shared:
            await self.send_heartbeat()
            self._task = asyncio.create_task(self._run(), name="replicas")

    async def stop(self) -> None:
        """Delete the heartbeat, so that others take over immediately."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self._store.engine.change(delete(_replicas).where(_replicas.c.replica_id == self.id))
        except GatewayUnavailableError:
            _log.warning("the other gateways will notice after %g s that this one has gone", self._patience)

    async def is_dead(self, replica: str | None) -> bool:
        """Whether the work of `replica` can be taken over.

        Raises:
            GatewayUnavailableError: the database does not respond.
        """
        if replica is None or (replica != self.id and not self._store.shared):
            return True
        if replica == self.id or not self._is_silent(replica):
            return False
        await self.send_heartbeat()  # it may have started, or sent a heartbeat, since the last check
        return self._is_silent(replica)

    def _is_silent(self, replica: str) -> bool:
        known = self._last_heartbeats.get(replica)
        return known is None or self._clock() - known[1] > self._patience

    async def send_heartbeat(self) -> None:
        """Send a heartbeat, and read those of the others.

        Raises:
            GatewayUnavailableError: the database does not respond.
        """
        try:
            rows = await self._exchange()
        except GatewayUnavailableError:
            self._watching = False
            raise
        now = self._clock()
        before, self._last_heartbeats = self._last_heartbeats, {}
        for replica, beat in rows:
            last = before.get(replica)
            # No gateway could send a heartbeat during an outage of the database.
            standing = last is not None and last[0] == beat and self._watching
            self._last_heartbeats[replica] = last if standing and last is not None else (beat, now)
        self._watching = True

    async def _exchange(self) -> list[tuple[str, int]]:
        mine = _replicas.c.replica_id == self.id
        silent = [each for each, (_, since) in self._last_heartbeats.items() if self._clock() - since > _FORGOTTEN]
        async with self._store.engine.begin() as connection:
            changed = await connection.execute(update(_replicas).where(mine).values(beat=_replicas.c.beat + 1))
            if not changed.rowcount:
                await connection.execute(insert(_replicas).values(replica_id=self.id, beat=0))
            if silent:
                await connection.execute(delete(_replicas).where(_replicas.c.replica_id.in_(silent)))
            found = await connection.execute(select(_replicas.c.replica_id, _replicas.c.beat))
            return [(row.replica_id, row.beat) for row in found]

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._beat)
            try:
                await self.send_heartbeat()
            except GatewayUnavailableError:
                continue  # the store has logged it
