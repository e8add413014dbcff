"""The first client of every gateway, which acts as the user who runs the gateway."""

from __future__ import annotations

import getpass
import json
import secrets

from crestline.gateway.identity.clients import Clients
from crestline.gateway.state_directory import StateDirectory, write_secret
from crestline.model import ConflictError

FIRST_CLIENT = "local-client"


def write_bootstrap_client(state_dir: StateDirectory) -> None:
    """Create its secret in `client.json`, unless the file exists."""
    if not state_dir.first_client.exists():
        content = {"client_id": FIRST_CLIENT, "client_secret": secrets.token_urlsafe(24)}
        write_secret(state_dir.first_client, json.dumps(content, indent=2).encode())


async def ensure_bootstrap_client(state_dir: StateDirectory, clients: Clients) -> None:
    """Register the client of `client.json`."""
    write_bootstrap_client(state_dir)
    client_id, secret = state_dir.read_first_client()
    if await clients.authenticate(client_id, secret) is not None:
        return
    try:
        await clients.add(client_id, getpass.getuser(), secret, replace=True)
    except ConflictError:  # another gateway on the same database has just registered it
        return
