"""The store's schema: every upgrade and downgrade, from a store that was made before there were migrations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

import crestline.gateway.app  # describes all tables
import crestline.gateway.store
from crestline.cli.app import app
from crestline.gateway.identity.clients import Clients
from crestline.gateway.state_directory import StateDirectory
from crestline.gateway.store import SCHEMA, Store, metadata
from crestline.model import ConfigError, CrestlineError
from harness.postgresql import PostgresServer

pytestmark = pytest.mark.anyio

# The schema and some rows of a gateway without migrations (its statements are in `schema_without_migrations.*.sql`).
_DATA = """
INSERT INTO clients VALUES ('alice-client', 'hash', 'alice');
INSERT INTO client_scopes VALUES ('alice-client', 'jobs:read');
INSERT INTO refresh_tokens VALUES ('of-before', 'alice-client', 4000000000);
INSERT INTO api_keys VALUES ('0123456789ab', 'hash', 'ci', 'alice', 'jobs:read', '', 1, 4000000000, NULL, NULL);
INSERT INTO submissions VALUES ('cluster', 'alice', 'key', 'print', '17', 1, NULL);
INSERT INTO audit VALUES (1, 1, 'r', 'alice', 'alice-client', 'token', '::1', 'GET /status', '', '', 200, '');
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """A database without a table."""
    if request.param == "sqlite":
        return tmp_path / "100% gateway.db"
    server: PostgresServer = request.getfixturevalue("postgresql")
    return server.create_database(f"migrations_{abs(hash(request.node.name)):x}")


@pytest.fixture
async def old(empty: Path | str) -> Path | str:
    """A store that an older gateway made and used."""
    kind = "sqlite" if isinstance(empty, Path) else "postgresql"
    schema = Path(__file__).with_name(f"schema_without_migrations.{kind}.sql").read_text()
    store = Store.connect(empty)
    await run(store, _statements(schema + _DATA))
    await store.close()
    return empty


def _statements(script: str) -> list[str]:
    """Each ends with `;` at the end of a line."""
    return [each for each in script.removesuffix("\n").split(";\n") if each.strip()]


async def run(store: Store, statements: Iterable[str]) -> None:
    async with store.engine.begin() as connection:
        for each in statements:
            await connection.exec_driver_sql(each.removesuffix(";"))


async def read(store: Store, query: str) -> list[Any]:
    async with store.engine.connect() as connection:
        return [tuple(row) for row in (await connection.execute(text(query))).all()]


async def differences(store: Store) -> list[Any]:
    """What the database has and our tables do not, or the other way round."""

    def compare(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return [each for each in compare_metadata(context, metadata) if "alembic_version" not in str(each)]

    async with store.engine.connect() as connection:
        return await connection.run_sync(compare)


async def test_last_revision_is_the_schema() -> None:
    directory = Path(crestline.gateway.store.__file__).with_name("migrations")
    config = Config()
    config.set_main_option("script_location", str(directory))
    assert ScriptDirectory.from_config(config).get_heads() == [SCHEMA]


async def test_new_store_has_the_schema(empty: Path | str) -> None:
    store = await Store.open(empty)
    assert await differences(store) == []
    assert await read(store, "SELECT version_num FROM alembic_version") == [(SCHEMA,)]
    await store.close()


async def test_store_without_migrations_is_upgraded_on_start(old: Path | str) -> None:
    store = await Store.open(old)
    assert await differences(store) == []
    assert [each.client_id for each in await Clients(store).list()] == ["alice-client"]
    assert await read(store, "SELECT token_hash, scope FROM refresh_tokens") == [("of-before", None)]
    assert await read(store, "SELECT key_id, client_id, parent FROM api_keys") == [("0123456789ab", None, None)]
    assert await read(store, "SELECT job_id FROM submissions") == [("17",)]
    with pytest.raises(DBAPIError, match="never changed"):
        await run(store, ["UPDATE audit SET reason = 'other'"])
    await store.close()


async def test_store_that_had_columns_added_is_upgraded(old: Path | str) -> None:
    store = Store.connect(old)
    added = ["api_keys ADD COLUMN client_id VARCHAR", "api_keys ADD COLUMN parent VARCHAR"]
    await run(store, [f"ALTER TABLE {each}" for each in [*added, "refresh_tokens ADD COLUMN scope TEXT"]])
    await store.close()
    store = await Store.open(old)
    assert await differences(store) == []
    await store.close()


async def test_every_downgrade_and_upgrade(old: Path | str) -> None:
    def columns(connection: Connection) -> dict[str, set[str]]:
        found = inspect(connection)
        return {name: {each["name"] for each in found.get_columns(name)} for name in found.get_table_names()}

    before = Store.connect(old)
    async with before.engine.connect() as connection:
        first = await connection.run_sync(columns)
    await before.close()
    store = await Store.open(old)
    await run(store, ["INSERT INTO refresh_tokens VALUES ('narrow', 'alice-client', 4000000000, 'jobs:read')"])
    await store.downgrade("0001")
    async with store.engine.connect() as connection:
        assert await connection.run_sync(columns) == first | {"alembic_version": {"version_num"}}
    assert await read(store, "SELECT token_hash FROM refresh_tokens") == [("of-before",)], "no token may gain scopes"
    assert len(await read(store, "SELECT * FROM audit")) == 1
    await store.close()
    store = await Store.open(old)
    assert await differences(store) == []
    await store.close()


async def test_gateways_that_start_at_once_migrate_once(old: Path | str) -> None:
    stores = await asyncio.gather(*(Store.open(old) for _ in range(4)))
    assert await read(stores[0], "SELECT version_num FROM alembic_version") == [(SCHEMA,)]
    assert await differences(stores[0]) == []
    for store in stores:
        await store.close()


async def test_migration_that_fails_changes_nothing(old: Path | str) -> None:
    store = Store.connect(old)
    await run(store, ["DROP TABLE refresh_tokens", "CREATE VIEW refresh_tokens AS SELECT 1 AS one"])
    with pytest.raises(CrestlineError):  # the last step adds a column to it
        await Store.open(old)
    with pytest.raises((DBAPIError, CrestlineError)):
        await read(store, "SELECT parent FROM api_keys")
    await run(store, ["DROP VIEW refresh_tokens"])
    await (await Store.open(old)).close()
    await store.close()


async def test_schema_of_a_newer_gateway_is_refused(empty: Path | str) -> None:
    store = await Store.open(empty)
    await run(store, ["UPDATE alembic_version SET version_num = '9999'"])
    with pytest.raises(ConfigError, match="schema 9999") as caught:
        await Store.open(empty)
    assert "newer Crestline" in str(caught.value.hint)
    await store.close()


@pytest.mark.parametrize("revision", ["base", "nosuch"])
async def test_there_is_nothing_to_downgrade_to(tmp_path: Path, revision: str) -> None:
    store = await Store.open(tmp_path / "gateway.db")
    with pytest.raises(ConfigError):
        await store.downgrade(revision)
    assert await differences(store) == []
    await store.close()


def test_operator_downgrades(tmp_path: Path) -> None:
    database = StateDirectory(tmp_path).database
    database.parent.mkdir()

    async def versions() -> list[Any]:
        store = Store.connect(database)
        try:
            return await read(store, "SELECT version_num, action FROM alembic_version, audit")
        finally:
            await store.close()

    asyncio.run((asyncio.run(Store.open(database))).close())
    refused = CliRunner().invoke(app, ["database", "downgrade", "nosuch", "--state-dir", str(tmp_path)])
    assert isinstance(refused.exception, ConfigError)  # and no record says that it was done
    done = CliRunner().invoke(app, ["database", "downgrade", "0001", "--state-dir", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert asyncio.run(versions()) == [("0001", "crestline database downgrade")]
