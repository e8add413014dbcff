"""`crestline clients`: OAuth2 clients of a gateway's built-in token issuer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crestline.cli import gateway_store
from crestline.cli.connecting import run_async
from crestline.cli.help import make_app
from crestline.cli.options import ConfigFile, Json, StateDir
from crestline.cli.output import note, print_json, print_table
from crestline.cli.scopes import ScopeNames, read_scopes

if TYPE_CHECKING:
    from crestline.gateway.identity.clients import Client
    from crestline.wire.extensions import Scope

app = make_app()
clients = make_app(
    help="Add, list and remove OAuth2 clients of a gateway of this machine, whether it is being served or not.",
    no_args_is_help=True,
)
app.add_typer(clients, name="clients")


@clients.command()
def add(
    client_id: Annotated[str, typer.Argument(metavar="CLIENT", help="Its id.")],
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="The POSIX user it acts as.")],
    scope: ScopeNames = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Add a client and print its secret once."""
    secret = run_async(_add(config, state_dir, client_id, user, read_scopes(scope)))
    if json:
        print_json({"client_id": client_id, "client_secret": secret, "username": user})
        return
    note(f"Client {client_id} acts as {user}. Its secret is shown this once.")
    print(secret)


@clients.command("list")
def list_(state_dir: StateDir = None, config: ConfigFile = None, json: Json = False) -> None:
    """List the clients."""
    found = run_async(_list(config, state_dir))
    if json:
        print_json([{"client_id": c.client_id, "username": c.username, "scopes": sorted(c.scopes)} for c in found])
        return
    print_table(("CLIENT", "USER", "SCOPES"), [[c.client_id, c.username, " ".join(sorted(c.scopes))] for c in found])


@clients.command()
def link(
    client_id: Annotated[
        str | None, typer.Argument(metavar="[CLIENT]", help="Its id; default: that of client.json.", show_default=False)
    ] = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Print a link that signs a browser in as a client, once, within ten minutes."""
    print(run_async(_link(config, state_dir, client_id)))


@clients.command()
def remove(
    client_id: Annotated[str, typer.Argument(metavar="CLIENT", help="Its id.")],
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Remove a client and revoke its access tokens, refresh tokens and API keys. Its jobs go on."""
    revoked = run_async(_remove(config, state_dir, client_id))
    keys = f"{revoked} API key{'' if revoked == 1 else 's'}"
    note(f"Client {client_id} is removed. Revoked: its access tokens, its refresh tokens and {keys}. Its jobs go on.")


async def _add(
    config: Path | None, state_dir: Path | None, client_id: str, user: str, scopes: list[Scope] | None
) -> str:
    async with gateway_store.open_store(config, state_dir) as (store, _):
        from crestline.gateway.identity.clients import Clients
        from crestline.wire.extensions import SCOPES

        secret = await Clients(store).add(client_id, user, scopes=scopes or SCOPES)
        await gateway_store.note(store, "clients add", f"{client_id} {user}")
        return secret


async def _link(config: Path | None, state_dir: Path | None, client_id: str | None) -> str:
    async with gateway_store.open_store(config, state_dir) as (store, settings):
        from crestline.gateway.identity.clients import Clients, sign_in_link
        from crestline.gateway.state_directory import StateDirectory

        place = StateDirectory(settings.state_dir)
        client_id = client_id or place.read_first_client()[0]
        public_url = settings.public_url or place.read_endpoint().url
        code = await Clients(store).new_sign_in_code(client_id)
        await gateway_store.note(store, "clients link", client_id)
        return sign_in_link(public_url.rstrip("/"), code)


async def _list(config: Path | None, state_dir: Path | None) -> list[Client]:
    async with gateway_store.open_store(config, state_dir) as (store, _):
        from crestline.gateway.identity.clients import Clients

        return await Clients(store).list()


async def _remove(config: Path | None, state_dir: Path | None, client_id: str) -> int:
    async with gateway_store.open_store(config, state_dir) as (store, _):
        from crestline.gateway.identity.api_keys import ApiKeys
        from crestline.gateway.identity.clients import Clients

        clients = Clients(store)
        client = await clients.find(client_id)
        # Revoke the keys first: if the command is interrupted, it can be repeated.
        revoked = 0 if client is None else await ApiKeys(store).revoke_of_client(client_id, client.username)
        await clients.remove(client_id)
        await gateway_store.note(store, "clients remove", f"{client_id} ({revoked} API keys)")
        return revoked
