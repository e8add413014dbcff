"""What must outlive the process: one SQL database, SQLite in the gateway's home by default.

Each room defines the tables it owns on `metadata`; opening the store creates those that are absent.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import MetaData, event
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

metadata = MetaData()


class Store:
    """The database. `engine` is all that its users need."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    @classmethod
    async def open(cls, file: Path) -> Store:
        """Open the SQLite database `file`, made readable to its owner alone where it is new."""
        file.touch(mode=0o600, exist_ok=True)
        engine = create_async_engine(URL.create("sqlite+aiosqlite", database=str(file)))
        event.listen(engine.sync_engine, "connect", _set_pragmas)
        async with engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
        return cls(engine)

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


def _set_pragmas(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # survives kill -9; a power cut may lose the last transactions
    cursor.execute("PRAGMA busy_timeout=5000")
    cursor.close()
