"""The SQL database: SQLite in the gateway's state directory, or PostgreSQL for several replicas.

Each package defines its tables on `metadata`. Alembic creates and changes them by the revisions in
`migrations/versions`. Opening the store upgrades an older schema to `SCHEMA`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from anyio import CancelScope, Lock, fail_after, sleep
from sqlalchemy import Connection, Executable, MetaData, Row, event, inspect, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from crestline.gateway import metrics
from crestline.model import ConfigError, GatewayUnavailableError

metadata = MetaData()

SCHEMA = "0005"
"""The revision of the schema for this version: the last of `migrations/versions`."""

RETRY_AFTER = 2.0
"""Seconds after which a client may repeat a request if the database did not respond."""

_CONNECT_TIMEOUT = 5.0
_COMMAND_TIMEOUT = 5.0
_BUSY_TIMEOUT = 5.0
"""Seconds for which SQLite waits for another process that writes."""
_POOL_TIMEOUT = 5.0
_MIGRATION_TIMEOUT = 300.0
"""Seconds for which a gateway waits while another one migrates."""
_LOCK_POLL_INTERVAL = 0.1
# PostgreSQL's classes of errors that the statement did not cause (Appendix A of its manual): connection, resources,
# operator intervention, system; and a server that is temporarily read-only.
_OUTAGES = ("08", "53", "57", "58", "25006")
_MIGRATION_LOCK = 0x637265_7374  # an arbitrary number, the same in all replicas

_log = logging.getLogger("crestline.store")


class DatabaseEngine:
    """Opens connections to the database. A cancellation does not interrupt a statement that has begun.

    If the database does not respond, at the start, in between or at the commit, it raises `GatewayUnavailableError`.

    Args:
        engine: SQLAlchemy's engine.
        one_writer: start transactions one after the other, in the order of their calls. SQLite has one writer, and lets
            the others retry at random moments until `_BUSY_TIMEOUT`, so that in a burst some never succeed.
    """

    def __init__(self, engine: AsyncEngine, *, one_writer: bool = False) -> None:
        self._engine = engine
        self._turn = Lock() if one_writer else nullcontext()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection for reading."""
        with CancelScope(shield=True), _outages():
            async with self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction: committed at the end, rolled back on an error. Transactions must not be nested."""
        with CancelScope(shield=True), _outages():
            async with self._turn, self._engine.begin() as connection:
                yield connection

    async def row(self, query: Executable) -> Row[Any] | None:
        """Return the first row of a query, or None."""
        async with self.connect() as connection:
            return (await connection.execute(query)).first()

    async def rows(self, query: Executable) -> Sequence[Row[Any]]:
        """Return all rows of a query."""
        async with self.connect() as connection:
            return (await connection.execute(query)).all()

    async def change(self, statement: Executable, values: Sequence[Mapping[str, Any]] | None = None) -> int:
        """Execute a statement, once or with each of `values`, and return the number of changed rows."""
        async with self.begin() as connection:
            return (await connection.execute(statement, values)).rowcount

    async def dispose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


class Store:
    """The database. Users need only its `engine`."""

    def __init__(self, engine: DatabaseEngine, *, shared: bool = False) -> None:
        self.engine = engine
        self.shared = shared
        """Whether other gateways can use the same database."""

    @classmethod
    async def open(cls, database: Path | str) -> Store:
        """Open the database, and create or upgrade its schema if necessary.

        Args:
            database: a SQLite file, created readable to its owner only; or the URL of a PostgreSQL database in libpq's
                format. A password that is not in the URL is read from libpq's sources.

        Raises:
            ConfigError: the database cannot be used.
            GatewayUnavailableError: the database does not respond.
        """
        store = cls.connect(database)
        try:
            await store._migrate()
        except BaseException:
            await store.close()
            raise
        return store

    @classmethod
    def connect(cls, database: Path | str) -> Store:
        """As `open`, with the existing tables. Connections are opened on demand.

        Raises:
            ConfigError: the database cannot be used.
        """
        if isinstance(database, Path):
            return cls(DatabaseEngine(_sqlite(database), one_writer=True))
        return cls(DatabaseEngine(_postgresql(database)), shared=True)

    async def ping(self) -> None:
        """Probe the database.

        Raises:
            GatewayUnavailableError: the database does not respond.
        """
        async with self.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))

    async def downgrade(self, revision: str) -> None:
        """Downgrade the schema to an earlier revision, for an earlier version of the gateway.

        Raises:
            ConfigError: the revision does not exist, or the database cannot be used.
            GatewayUnavailableError: the database does not respond.
        """
        await self._migrate(revision)

    async def close(self) -> None:
        await self.engine.dispose()

    async def _migrate(self, earlier: str | None = None) -> None:
        try:
            async with self.engine.begin() as connection:
                present = await connection.run_sync(_revision)
                if present == (earlier or SCHEMA):
                    return
                # If several gateways start at once, one migrates while the others wait.
                if self.shared:
                    await _acquire_migration_lock(connection)
                else:
                    await connection.exec_driver_sql("BEGIN IMMEDIATE")
                await connection.run_sync(_migrate, earlier)
        except SQLAlchemyError as error:
            hint = "Does the database exist, and may its user make tables there?"
            raise ConfigError(
                f"The database cannot be used: {_reason(error)}.", hint="Make room." if _is_full(error) else hint
            ) from error


async def _acquire_migration_lock(connection: AsyncConnection) -> None:
    """Wait for the lock longer than any one command may take."""
    with fail_after(_MIGRATION_TIMEOUT):
        statement = f"SELECT pg_try_advisory_xact_lock({_MIGRATION_LOCK})"
        while not (await connection.exec_driver_sql(statement)).scalar():  # noqa: ASYNC110 - a lock tells nothing
            await sleep(_LOCK_POLL_INTERVAL)


def _sqlite(file: Path) -> AsyncEngine:
    try:
        file.touch(mode=0o600, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be written: {error.strerror}.", hint="Name another state directory."
        ) from error
    engine = create_async_engine(URL.create("sqlite+aiosqlite", database=str(file)), hide_parameters=True)
    event.listen(engine.sync_engine, "connect", _set_pragmas)
    return engine


def _postgresql(url: str) -> AsyncEngine:
    try:
        import asyncpg  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise ConfigError(
            "PostgreSQL needs asyncpg, which is not installed.", hint="Run: pip install 'crestline[postgresql]'"
        ) from error

    async def connect() -> Any:
        try:
            return await asyncpg.connect(url, timeout=_CONNECT_TIMEOUT, command_timeout=_COMMAND_TIMEOUT)
        except (asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InvalidCatalogNameError) as error:
            raise ConfigError(f"The database refuses: {error}.", hint="Correct `database`.") from error
        except (ValueError, asyncpg.ClientConfigurationError) as error:  # the text may contain the password
            raise ConfigError("`database` is not a URL of PostgreSQL.", hint=POSTGRESQL_URL) from error

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=5,
        max_overflow=10,
        pool_timeout=_POOL_TIMEOUT,
        pool_pre_ping=True,  # after a restart of the server, no request gets a dead connection
        hide_parameters=True,
    )


POSTGRESQL_URL = "Write postgresql://USER@HOST/DATABASE; the password may come from ~/.pgpass or PGPASSFILE."


def _revision(connection: Connection) -> str | None:
    """Return the revision of the existing schema."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _migrate(connection: Connection, earlier: str | None) -> None:
    from alembic import command  # takes a tenth of a second, and most starts find the current schema
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    try:
        if earlier is None:
            command.upgrade(config, SCHEMA)
        else:
            command.downgrade(config, earlier)
    except CommandError as error:
        raise ConfigError(
            f"The database's schema {_revision(connection)} cannot be brought to {earlier or SCHEMA}: {error}.",
            hint="If a newer Crestline upgraded it, use that version, also for a downgrade.",
        ) from error


def _set_pragmas(connection: object, _record: object) -> None:
    cursor = connection.cursor()  # type: ignore[attr-defined]
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")  # survives kill -9; a power cut may lose the last transactions
    cursor.execute(f"PRAGMA busy_timeout={1000 * _BUSY_TIMEOUT:.0f}")
    cursor.close()


@contextmanager
def _outages() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not _is_outage(error):
            raise
        metrics.STORE_ERRORS.inc()
        _log.warning("the database does not answer: %s", _reason(error))
        if _is_full(error):
            raise GatewayUnavailableError(
                "The disk of the gateway's database is full.",
                hint="Tell the gateway's operator to make room.",
                retry_after=RETRY_AFTER,
            ) from error
        raise GatewayUnavailableError(
            "The gateway's database does not answer.", hint="Try again soon.", retry_after=RETRY_AFTER
        ) from error


def _is_full(error: BaseException) -> bool:
    original = getattr(error, "orig", None) or error
    return getattr(original, "sqlstate", None) == "53100" or "disk is full" in str(original)


def _is_outage(error: Exception) -> bool:
    if isinstance(error, PoolTimeoutError) or (isinstance(error, DBAPIError) and error.connection_invalidated):
        return True
    original = getattr(error, "orig", None) or error
    if isinstance(original, OSError):  # a TimeoutError is an OSError
        return True
    state = getattr(original, "sqlstate", None)
    if state:
        return str(state).startswith(_OUTAGES)
    return isinstance(error, (OperationalError, InterfaceError))


def _reason(error: BaseException) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).splitlines()[0].rstrip(".") if str(original) else type(original).__name__
