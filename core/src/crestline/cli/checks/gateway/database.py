"""Check the database, unless it is the file in the state directory."""

from __future__ import annotations

from collections.abc import AsyncIterator

from crestline.cli.checks import Check, Verdict, failed
from crestline.cli.checks.gateway.setup import Setup
from crestline.model import CrestlineError, GatewayUnavailableError


async def check(setup: Setup) -> AsyncIterator[Check]:
    """Check that the database responds and that the gateway may create its tables."""
    from sqlalchemy import text

    from crestline.gateway.store import Store

    if setup.config.database is None:
        yield Check("database", Verdict.OK, "SQLite in the state directory, for one gateway.")
        return
    try:
        store = Store.connect(setup.config.database)
        try:
            async with store.engine.connect() as connection:
                version = (await connection.execute(text("SHOW server_version"))).scalar_one()
                may = "SELECT has_schema_privilege(current_schema(), 'CREATE')"
                may_make = (await connection.execute(text(may))).scalar_one()
        finally:
            await store.close()
    except GatewayUnavailableError as error:
        message = f"It does not answer: {error.__cause__}."
        yield Check("database", Verdict.FAIL, message, "Is the server running, and does it take connections from here?")
        return
    except CrestlineError as error:
        yield failed("database", error)
        return
    if not may_make:
        hint = "GRANT CREATE ON SCHEMA public to the gateway's role, or let it own the database."
        yield Check("database", Verdict.FAIL, "The gateway may not make tables there.", hint)
    else:
        yield Check("database", Verdict.OK, f"PostgreSQL {version} answers.")
