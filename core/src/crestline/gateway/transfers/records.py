"""What the gateway remembers of its transfers across a restart."""

from __future__ import annotations

import time

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from crestline.gateway.identity import Principal
from crestline.gateway.store import DatabaseEngine, metadata

ENDED = ("COMPLETED", "FAILED", "CANCELLED")

_transfers = Table(
    "transfers",
    metadata,
    Column("transfer_id", String, primary_key=True),
    Column("system", String, nullable=False, index=True),
    Column("username", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("state", String, nullable=False, index=True),
    Column("reason", Text, nullable=False, default=""),
    Column("path", Text, nullable=False),
    Column("directory", Text, nullable=False),
    Column("size", BigInteger, nullable=False, default=0),
    Column("part_size", BigInteger, nullable=False, default=0),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("ended", Float),
    Column("expires", Float, nullable=False),
    Column("owner", String),
    Column("cancel", Boolean),
    Column("caller", Text),  # as JSON
)

_parts = Table(
    "transfer_parts",
    metadata,
    Column("transfer_id", String, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("etag", String, nullable=False),
)


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One transfer. Times are seconds since the epoch; states are Slurm's words."""

    transfer_id: str
    system: str
    username: str
    kind: str
    """`upload`, `download`, or the operation: `cp`, `mv`, `rm`, `compress`, `extract`"""
    state: str
    path: str
    """the file that is written or read"""
    directory: str
    """where its logs are"""
    created: float
    expires: float
    """when an upload that was not completed is dropped"""
    reason: str = ""
    size: int = 0
    part_size: int = 0
    started: float | None = None
    ended: float | None = None
    owner: str | None = None
    """the replica that moved it last"""
    cancel: bool | None = None
    """whether its owner is asked to end it"""
    caller: str | None = None
    """who began it, as JSON of a `Principal`; None: a gateway of an earlier version"""

    def started_by(self) -> Principal | None:
        """Who began it; None: a gateway of an earlier version."""
        return msgspec.json.decode(self.caller, type=Principal) if self.caller is not None else None

    @property
    def output_log(self) -> str:
        """Path of the log that FirecREST's clients read."""
        return f"{self.directory}/.f7t_file_handling_job_{self.transfer_id}.log"

    @property
    def error_log(self) -> str:
        return f"{self.directory}/.f7t_file_handling_job_error_{self.transfer_id}.log"


def encode_caller(caller: Principal) -> str:
    """A caller as a transfer keeps it, without the time when the credential ends."""
    return msgspec.json.encode(msgspec.structs.replace(caller, expires=0.0)).decode()


class TransferRecords:
    """The transfers of one system, as the replica `owner` works on them."""

    def __init__(self, engine: DatabaseEngine, system: str, owner: str) -> None:
        self._engine = engine
        self._system = system
        self._owner = owner

    async def add(self, transfer: Transfer) -> None:
        """Write down a new transfer."""
        values = msgspec.structs.asdict(transfer) | {"owner": self._owner}
        await self._engine.change(insert(_transfers).values(values))

    async def get(self, transfer_id: str) -> Transfer | None:
        """One transfer."""
        found = await self._select(_transfers.c.transfer_id == transfer_id)
        return found[0] if found else None

    async def unfinished(self) -> list[Transfer]:
        """All that have not ended."""
        return await self._select(_transfers.c.state.not_in(ENDED))

    async def expired(self, now: float) -> list[Transfer]:
        """Return the uploads that were not completed in time."""
        return await self._select(
            _transfers.c.kind == "upload", _transfers.c.state.not_in(ENDED), _transfers.c.expires < now
        )

    async def ended_before(self, moment: float) -> list[Transfer]:
        """All that ended before `moment`."""
        return await self._select(_transfers.c.ended < moment)

    async def transition(self, transfer_id: str, sources: tuple[str, ...], state: str, reason: str = "") -> bool:
        """Change the state from one of `sources`; False where it was in none of them."""
        values: dict[str, object] = {"state": state, "reason": reason, "owner": self._owner}
        if state == "RUNNING":
            values["started"] = time.time()
        elif state in ENDED:
            values["ended"] = time.time()
            values["started"] = func.coalesce(_transfers.c.started, _transfers.c.created)
        it = (_transfers.c.transfer_id == transfer_id, _transfers.c.state.in_(sources))
        return bool(await self._engine.change(update(_transfers).where(*it).values(values)))

    async def claim(self, transfer: Transfer) -> bool:
        """Make it this replica's; False where another has taken it meanwhile."""
        unchanged = _transfers.c.owner.is_not_distinct_from(transfer.owner)
        it = (_transfers.c.transfer_id == transfer.transfer_id, unchanged)
        return bool(await self._engine.change(update(_transfers).where(*it).values(owner=self._owner)))

    async def ask_to_cancel(self, transfer_id: str) -> None:
        """Leave word for the replica at whose hands it is."""
        await self._engine.change(update(_transfers).where(_transfers.c.transfer_id == transfer_id).values(cancel=True))

    async def forget(self, transfer_id: str) -> None:
        """Drop all that is known of it."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(_parts).where(_parts.c.transfer_id == transfer_id))
            await connection.execute(delete(_transfers).where(_transfers.c.transfer_id == transfer_id))

    async def add_part(self, transfer_id: str, number: int, etag: str) -> None:
        """Write down that a part is stored; the last one of the same number counts."""
        key = (_parts.c.transfer_id == transfer_id) & (_parts.c.number == number)
        try:
            async with self._engine.begin() as connection:
                await connection.execute(delete(_parts).where(key))
                await connection.execute(insert(_parts).values(transfer_id=transfer_id, number=number, etag=etag))
        except IntegrityError:  # the same part was sent twice at once
            await self._engine.change(update(_parts).where(key).values(etag=etag))

    async def parts(self, transfer_id: str) -> dict[int, str]:
        """ETags of the stored parts by number."""
        query = select(_parts.c.number, _parts.c.etag).where(_parts.c.transfer_id == transfer_id)
        return {row.number: row.etag for row in await self._engine.rows(query)}

    async def _select(self, *conditions: object) -> list[Transfer]:
        query = select(_transfers).where(_transfers.c.system == self._system, *conditions)  # type: ignore[arg-type]
        return [Transfer(**row._mapping) for row in await self._engine.rows(query.order_by(_transfers.c.created))]
