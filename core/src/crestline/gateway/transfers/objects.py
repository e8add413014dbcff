"""Which objects belong to which transfers: whatever the store keeps for the gateway is written down here first."""

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
    """An object of one transfer, there already or being put together."""

    transfer_id: str
    bucket: str
    key: str
    upload_id: str
    """of the multipart upload that makes it"""


class StagedObjects:
    """Database records of the objects that one system's transfers have in the store."""

    def __init__(self, engine: DatabaseEngine, system: str) -> None:
        self._engine = engine
        self._system = system

    async def put(self, staged: StagedObject) -> None:
        """Write one down, in the place of an earlier one of the same transfer."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(_objects).where(_objects.c.transfer_id == staged.transfer_id))
            await connection.execute(insert(_objects).values(system=self._system, **msgspec.structs.asdict(staged)))

    async def get(self, transfer_id: str) -> StagedObject | None:
        found = await self._select(_objects.c.transfer_id == transfer_id)
        return found[0] if found else None

    async def all(self) -> list[StagedObject]:
        """All that may still be in the store."""
        return await self._select()

    async def forget(self, transfer_id: str) -> None:
        """Remove the record of an object that is no longer in the store."""
        await self._engine.change(delete(_objects).where(_objects.c.transfer_id == transfer_id))

    async def _select(self, *conditions: object) -> list[StagedObject]:
        columns = (_objects.c.transfer_id, _objects.c.bucket, _objects.c.key, _objects.c.upload_id)
        query = select(*columns).where(_objects.c.system == self._system, *conditions)  # type: ignore[arg-type]
        return [StagedObject(**row._mapping) for row in await self._engine.rows(query)]
