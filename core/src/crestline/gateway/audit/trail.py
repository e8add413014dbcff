"""Writes records, many in one transaction, and deletes expired ones."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from crestline.gateway.audit.record import AuditQuery, AuditRecord, audit_table
from crestline.gateway.config import AuditConfig
from crestline.gateway.store import Store
from crestline.model import GatewayUnavailableError

_RETRY = 1.0
_PATIENCE = 1.0
"""Maximum seconds for which a response waits until its record is stored."""
_SWEEP = 60.0
_MOST_WAITING = 10_000
_DAY = 86400

_log = logging.getLogger("crestline.audit")


class AuditTrail:
    """The audit table of one store.

    While the database does not respond, records are logged, wait in memory, and are stored later.
    """

    def __init__(self, store: Store, config: AuditConfig | None = None) -> None:
        config = config or AuditConfig()
        self._engine = store.engine
        self._retention = config.retention_days * _DAY
        self._most = config.max_records
        self._before_sweep: Callable[..., Awaitable[None]] | None = None
        self._waiting: list[tuple[AuditRecord, asyncio.Future[None]]] = []
        self._some = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def before_sweep(self, flush: Callable[..., Awaitable[None]]) -> None:
        """Call `flush()` before each sweep, and `flush(all_kinds=True)` before the end."""
        self._before_sweep = flush

    async def start(self) -> None:
        """Start the tasks that write records and remove expired ones."""
        for work, name in ((self._write_forever(), "audit"), (self._sweep_forever(), "audit retention")):
            self._tasks.append(asyncio.create_task(work, name=name))

    async def stop(self) -> None:
        """Store the waiting records, if possible now, and stop."""
        if self._before_sweep is not None and self._tasks:
            await self._before_sweep(all_kinds=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._flush()

    async def record(self, record: AuditRecord) -> None:
        """Store a record. Returns when it is stored, or after a second at most."""
        stored = asyncio.get_running_loop().create_future()
        self._waiting.append((record, stored))
        self._some.set()
        await asyncio.wait([stored], timeout=_PATIENCE)

    async def write(self, records: Sequence[AuditRecord]) -> None:
        """Store records, or raise the error of the database."""
        await self._engine.change(insert(audit_table), [msgspec.structs.asdict(each) for each in records])

    async def read(self, query: AuditQuery) -> Sequence[AuditRecord]:
        """Return records, the oldest first."""
        rows = await self._engine.rows(query.select())
        columns = [str(column.name) for column in audit_table.columns]
        return [msgspec.convert(dict(zip(columns, row, strict=True)), AuditRecord) for row in reversed(rows)]

    async def sweep(self) -> None:
        """Delete expired records, and the oldest ones above the limit of the table."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(audit_table).where(audit_table.c.at < time.time() - self._retention))
            # Numbers ascend, and the lowest are deleted first, so the difference of numbers bounds the number of
            # records.
            highest = await connection.scalar(select(func.max(audit_table.c.number)))
            surplus = await connection.execute(
                delete(audit_table).where(audit_table.c.number <= (highest or 0) - self._most)
            )
        if surplus.rowcount > 0:
            _log.warning("the audit trail is full: its %d oldest records were deleted", surplus.rowcount)

    async def _write_forever(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            if not await self._flush():
                await asyncio.sleep(_RETRY)
                self._some.set()

    async def _flush(self) -> bool:
        batch = self._waiting[:]
        if not batch:
            return True
        try:
            await self.write([record for record, _ in batch])
        except GatewayUnavailableError:
            self._publish(batch)
            return False
        except SQLAlchemyError:  # a record that the database cannot store must not block the others
            await self._write_each([record for record, _ in batch])
        del self._waiting[: len(batch)]
        for _, stored in batch:
            if not stored.done():
                stored.set_result(None)
        return True

    async def _write_each(self, records: Sequence[AuditRecord]) -> None:
        for record in records:
            try:
                await self.write([record])
            except (SQLAlchemyError, GatewayUnavailableError) as error:
                _log.error("not stored (%s): %s", error, msgspec.json.encode(record).decode())

    def _publish(self, batch: Sequence[tuple[AuditRecord, asyncio.Future[None]]]) -> None:
        """Log each record once, and let its request proceed."""
        for record, stored in batch:
            if not stored.done():
                _log.error("not stored yet: %s", msgspec.json.encode(record).decode())
                stored.set_result(None)
        del self._waiting[: max(0, len(self._waiting) - _MOST_WAITING)]

    async def _sweep_forever(self) -> None:
        while True:
            try:
                if self._before_sweep is not None:
                    await self._before_sweep()
                await self.sweep()
            except GatewayUnavailableError as error:
                _log.warning("old audit records stay for now: %s", error)
            await asyncio.sleep(_SWEEP)
