"""Records of the objects in the store and their transfers. The gateway records an object before it creates it."""

from __future__ import annotations

import msgspec
from sqlalchemy import Column, String, Table, Text, delete, insert, select

from crestline.gateway.store import DatabaseEngine, metadata

_objects = Table(
    "transfer_objects",
    metadata,
    Column("transfer_id", String, primary_key=True),
    Column("system", String, nullable=False, index=True),
    Column("bucket", String, nullable=False),
    Column("key", Text, nullable=False),
    Column("upload_id", Text, nullable=False),
)


class StagedObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object of one transfer, complete or being uploaded."""

    transfer_id: str
    bucket: str
    key: str
    upload_id: str
    """Id of the multipart upload that creates it."""


class StagedObjects:
    """Database records of the objects that one system's transfers have in the store."""

    def __init__(self, engine: DatabaseEngine, system: str) -> None:
        self._engine = engine
        self._system = system

    async def put(self, staged: StagedObject) -> None:
        """Record an object, replacing an earlier one of the same transfer."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(_objects).where(_objects.c.transfer_id == staged.transfer_id))
            await connection.execute(insert(_objects).values(system=self._system, **msgspec.structs.asdict(staged)))

    async def get(self, transfer_id: str) -> StagedObject | None:
        found = await self._select(_objects.c.transfer_id == transfer_id)
        return found[0] if found else None

    async def all(self) -> list[StagedObject]:
        """Return all objects that may still be in the store."""
        return await self._select()

    async def forget(self, transfer_id: str) -> None:
        """Delete the record of an object that has been removed from the store."""
        await self._engine.change(delete(_objects).where(_objects.c.transfer_id == transfer_id))

    async def _select(self, *conditions: object) -> list[StagedObject]:
        columns = (_objects.c.transfer_id, _objects.c.bucket, _objects.c.key, _objects.c.upload_id)
        query = select(*columns).where(_objects.c.system == self._system, *conditions)  # type: ignore[arg-type]
        return [StagedObject(**row._mapping) for row in await self._engine.rows(query)]
