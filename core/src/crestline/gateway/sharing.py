"""What gateways on one database have in common beside its tables: the secrets that are otherwise one home's own."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, LargeBinary, String, Table, insert, select
from sqlalchemy.exc import IntegrityError

from crestline.gateway.config import GatewayConfig
from crestline.gateway.first_client import write_first_client
from crestline.gateway.home import Home, write_secret
from crestline.gateway.hosts.base import HostSetup
from crestline.gateway.hosts.registry import create_host
from crestline.gateway.identity.keys import signing_key
from crestline.gateway.paths import PathGuard
from crestline.gateway.store import Store, metadata

_secrets = Table(
    "secrets",
    metadata,
    Column("name", String, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)


async def share(config: GatewayConfig, home: Home, store: Store) -> None:
    """Give a home the secrets that the other gateways on its database have.

    The first gateway brings its own; each later one gets them, in the files where it looks for them anyway.
    """
    if not store.shared:
        return
    home.identifier()
    signing_key(home)
    home.transfer_key()
    write_first_client(home)
    for file in (home.private / "identifier", home.private / "signing_key.json", home.private / "transfer_key"):
        await _share_file(store, file.name, file)
    await _share_file(store, "client.json", home.first_client)
    for name, system in config.systems.items():
        host = create_host(HostSetup(name, PathGuard(name, []), system.host, home.private / "systems" / name))
        for file in host.secret_files:
            await _share_file(store, f"systems/{name.lower()}/{file.name}", file)


async def _share_file(store: Store, name: str, file: Path) -> None:
    wanted = select(_secrets.c.content).where(_secrets.c.name == name)
    mine = file.read_bytes()
    try:
        async with store.engine.begin() as connection:
            shared = (await connection.execute(wanted)).scalar()
            if shared is None:
                await connection.execute(insert(_secrets).values(name=name, content=mine))
                return
    except IntegrityError:  # another gateway was first, just now
        async with store.engine.connect() as connection:
            shared = (await connection.execute(wanted)).scalar_one()
    if shared != mine:
        write_secret(file, shared)
