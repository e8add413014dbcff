"""Access to the database of a gateway for operator commands, whether or not the gateway is running."""

from __future__ import annotations

import getpass
import os
import pwd
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from crestline.cli.extras import needs_extra
from crestline.model import ConfigError

if TYPE_CHECKING:
    from crestline.gateway.config import GatewayConfig
    from crestline.gateway.store import Store


@asynccontextmanager
async def open_store(config: Path | None, state_dir: Path | None) -> AsyncIterator[tuple[Store, GatewayConfig]]:
    """Open the store of the gateway with this configuration and state directory.

    Raises:
        ConfigError: no gateway has run there, or the state directory belongs to another user.
    """
    from crestline.gateway.config import load_config
    from crestline.gateway.state_directory import StateDirectory

    settings = load_config(config, state_dir=state_dir)
    place = StateDirectory(settings.state_dir)
    if settings.database is None:
        _check_owner(place.database, place.path)
    with needs_extra("The gateway", "gateway"):
        from crestline.gateway.store import Store
    store = await Store.open(settings.database or place.database)
    try:
        yield store, settings
    finally:
        await store.close()


async def note(store: Store, action: str, target: str) -> None:
    """Record an action of the operator in the audit trail."""
    from crestline.gateway.audit import AuditRecord, AuditTrail

    record = AuditRecord(
        at=time.time(),
        request_id="",
        username=getpass.getuser(),
        client_id="",
        via="admin",
        address="",
        action=f"crestline {action}",
        system="",
        target=target,
        status=200,
    )
    await AuditTrail(store).write([record])


def _check_owner(database: Path, state_dir: Path) -> None:
    try:
        owner = database.stat().st_uid
    except FileNotFoundError:
        raise ConfigError(
            f"No gateway has run on {state_dir} yet.", hint=f"Start it: crestline serve --state-dir {state_dir}"
        ) from None
    except PermissionError:
        raise ConfigError(f"{state_dir} cannot be read.", hint="Run this as the user who runs the gateway.") from None
    if owner != os.geteuid():  # the gateway could not read the files that SQLite would create beside it
        name = pwd.getpwuid(owner).pw_name
        raise ConfigError(
            f"{state_dir} belongs to {name}.", hint=f"Run this as that user: sudo -u {name} crestline ..."
        )
