"""The store: an absent database is an outage, not a fault."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from crestline.gateway.identity.clients import Clients
from crestline.gateway.replicas import Replicas
from crestline.gateway.store import _MIGRATION_LOCK, Store
from crestline.model import ConfigError, GatewayUnavailableError
from harness.postgresql import PostgresServer

pytestmark = pytest.mark.anyio


async def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        await Store.open(tmp_path / "nowhere" / "gateway.db")


async def test_a_fault_of_ours_is_no_outage(tmp_path: Path) -> None:
    store = await Store.open(tmp_path / "gateway.db")
    insert = text("INSERT INTO clients VALUES ('one', 'hash', 'user')")
    async with store.engine.begin() as connection:
        await connection.execute(insert)
        with pytest.raises(IntegrityError):
            await connection.execute(insert)
    await store.close()


async def test_transactions_on_sqlite_wait_for_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: SQLite's own wait is none here."""
    monkeypatch.setattr("crestline.gateway.store._BUSY_TIMEOUT", 0)
    store = await Store.open(tmp_path / "gateway.db")

    async def add(name: str) -> None:
        await store.engine.change(text("INSERT INTO clients VALUES (:name, 'hash', 'user')"), [{"name": name}])

    async with asyncio.TaskGroup() as group, store.engine.begin() as connection:
        await connection.execute(text("INSERT INTO clients VALUES ('first', 'hash', 'user')"))
        for number in range(20):
            group.create_task(add(f"client-{number}"))
        # Readers need no turn, and the tasks have come to theirs when some reads are through.
        for _ in range(20):
            assert await store.engine.row(text("SELECT * FROM clients")) is None
    assert len(await store.engine.rows(text("SELECT * FROM clients"))) == 21
    await store.close()


async def test_gateways_that_start_at_once_make_the_tables_once(postgresql: PostgresServer) -> None:
    url = postgresql.create_database("at_once")
    stores = await asyncio.gather(*(Store.open(url) for _ in range(4)))
    await Clients(stores[0]).add("one", "alice", "secret")
    assert await Clients(stores[1]).authenticate("one", "secret") is not None
    for store in stores:
        await store.close()


async def test_a_gateway_waits_for_the_long_migration_of_another(
    postgresql: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crestline.gateway.store._COMMAND_TIMEOUT", 2.0)
    url = postgresql.create_database("long_migration")
    other = await asyncpg.connect(url)
    await other.execute(f"SELECT pg_advisory_lock({_MIGRATION_LOCK})")
    opening = asyncio.create_task(Store.open(url))
    done, _ = await asyncio.wait({opening}, timeout=4.0)
    assert not done
    await other.close()
    await (await opening).close()


@pytest.mark.parametrize(
    ("database", "said"),
    [
        ("postgresql://crestline:{secret}@127.0.0.1:{port}/postgres", "refuses"),
        ("postgresql://crestline:of-the-tests@127.0.0.1:{port}/nosuch", "nosuch"),
        ("mysql://crestline:{secret}@127.0.0.1/x", "not a URL of PostgreSQL"),
    ],
)
async def test_a_database_that_cannot_be_used(postgresql: PostgresServer, database: str, said: str) -> None:
    port = postgresql.url().rpartition(":")[2].partition("/")[0]
    with pytest.raises(ConfigError) as caught:
        await Store.open(database.format(port=port, secret="not-to-be-shown"))
    assert said in str(caught.value)
    assert "not-to-be-shown" not in str(caught.value)


async def test_a_role_that_may_not_make_tables(postgresql: PostgresServer) -> None:
    url = postgresql.create_database("narrow")
    postgresql.execute("CREATE ROLE narrow LOGIN PASSWORD 'of-the-tests'")
    with pytest.raises(ConfigError, match="permission denied"):
        await Store.open(url.replace("crestline:", "narrow:"))


@pytest.mark.parametrize("hung", [False, True])
async def test_an_outage_of_the_server(postgresql: PostgresServer, hung: bool) -> None:
    store = await Store.open(postgresql.create_database(f"outage_{int(hung)}"))
    replicas = Replicas(store)
    await replicas.send_heartbeat()
    (postgresql.pause if hung else postgresql.stop)()
    try:
        async with asyncio.timeout(60):  # a hang would last for ever
            with pytest.raises(GatewayUnavailableError) as caught:
                await store.ping()
            assert caught.value.retry_after
            with pytest.raises(GatewayUnavailableError):
                await replicas.send_heartbeat()
        if not hung:
            with pytest.raises(GatewayUnavailableError):
                await Store.open(postgresql.url())
    finally:
        (postgresql.resume if hung else postgresql.start)()
    await store.ping()  # the connections that have gone are no one's concern
    await store.close()


async def test_who_is_dead(postgresql: PostgresServer) -> None:
    url = postgresql.create_database("replicas")
    now = 0.0
    one = Replicas(await Store.open(url), patience=10, clock=lambda: now)
    other = Replicas(await Store.open(url), patience=10, clock=lambda: now)
    await other.send_heartbeat()
    await one.send_heartbeat()
    assert not await one.is_dead(one.id)
    assert not await one.is_dead(other.id)
    late = Replicas(other._store)
    await late.send_heartbeat()
    assert not await one.is_dead(late.id), "it started after the last look"
    assert await one.is_dead("nobody")
    assert await one.is_dead(None)
    for now in (6.0, 12.0):  # noqa: B007 - the clock reads it
        await other.send_heartbeat()
        await one.send_heartbeat()
        assert not await one.is_dead(other.id)
    now = 23.0
    await one.send_heartbeat()
    assert await one.is_dead(other.id)
    await other.send_heartbeat()
    await one.send_heartbeat()
    assert not await one.is_dead(other.id), "it was only slow"
    for each in (one, other):
        await each._store.close()


async def test_an_outage_of_the_database_kills_no_replica(postgresql: PostgresServer) -> None:
    url = postgresql.create_database("calm")
    now = 0.0
    one = Replicas(await Store.open(url), patience=10, clock=lambda: now)
    other = Replicas(await Store.open(url), patience=10, clock=lambda: now)
    await other.send_heartbeat()
    await one.send_heartbeat()
    now = 8.0
    postgresql.stop()
    with pytest.raises(GatewayUnavailableError):
        await one.send_heartbeat()
    now = 60.0
    postgresql.start()
    await one.send_heartbeat()
    assert not await one.is_dead(other.id)
    now = 71.0
    await one.send_heartbeat()
    assert await one.is_dead(other.id)
    for each in (one, other):
        await each._store.close()
