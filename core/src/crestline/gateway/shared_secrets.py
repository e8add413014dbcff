"""Secrets that gateways on one database share. Without a shared database each state directory has its own."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, LargeBinary, String, Table, insert, select
from sqlalchemy.exc import IntegrityError

from crestline.gateway.bootstrap_client import write_bootstrap_client
from crestline.gateway.config import GatewayConfig
from crestline.gateway.hosts.base import HostSetup
from crestline.gateway.hosts.registry import create_host
from crestline.gateway.identity.keys import signing_key
from crestline.gateway.paths import PathGuard
from crestline.gateway.state_directory import StateDirectory, write_secret
from crestline.gateway.store import Store, metadata

_secrets = Table(
    "secrets",
    metadata,
    Column("name", String, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)


async def sync_secrets(config: GatewayConfig, state_dir: StateDirectory, store: Store) -> None:
    """Copy the secrets of the other gateways on the database to a state directory.

    The first gateway stores its own secrets in the database. Each later one writes them to its own files.
    """
    if not store.shared:
        return
    state_dir.identifier()
    signing_key(state_dir)
    state_dir.transfer_key()
    write_bootstrap_client(state_dir)
    for file in (
        state_dir.private / "identifier",
        state_dir.private / "signing_key.json",
        state_dir.private / "transfer_key",
    ):
        await _share_file(store, file.name, file)
    await _share_file(store, "client.json", state_dir.first_client)
    for name, system in config.systems.items():
        host = create_host(HostSetup(name, PathGuard(name, []), system.host, state_dir.private / "systems" / name))
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
    except IntegrityError:  # another gateway has just stored them
        async with store.engine.connect() as connection:
            shared = (await connection.execute(wanted)).scalar_one()
    if shared != mine:
        write_secret(file, shared)
