"""`crestline keys`: manage your own API keys through a gateway, or any user's keys in the gateway's state directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec import structs

from crestline.cli import gateway_store
from crestline.cli.connecting import run_async
from crestline.cli.durations import seconds, when
from crestline.cli.errors import UsageError
from crestline.cli.help import make_app
from crestline.cli.options import ConfigFile, Json, Site, StateDir
from crestline.cli.output import note, print_json, print_table
from crestline.cli.scopes import ScopeNames, read_scopes
from crestline.cli.several import Several
from crestline.listening import check_listening

if TYPE_CHECKING:
    from crestline import client
    from crestline.wire.extensions import ApiKeyInfo, NewApiKey, Scope

app = make_app()
keys = make_app(
    help="Create, list and revoke API keys: yours, or any user's by --user, --state-dir or --config on the gateway's"
    " host.",
    no_args_is_help=True,
)
app.add_typer(keys, name="keys")

Owner = Annotated[
    str | None, typer.Option("--user", metavar="NAME", help="For the operator: the POSIX user that the key acts as.")
]


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    scope: ScopeNames = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Its life: 8h, 90d. Default: the gateway's."),
    ] = None,
    user: Owner = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="NAME", help="With --user: a group of theirs; repeatable."),
    ] = None,
    site: Site = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Create an API key and print it once."""
    life = seconds(expires) if expires else None
    scopes = read_scopes(scope)
    if user is None and (state_dir or config or group):
        raise UsageError("Name the user that the key acts as: --user NAME.")
    if user is None:
        key = run_async(_create(site, name, scopes, life))
    else:
        key = run_async(_create_in_store(config, state_dir, user, group or [], name, scopes, life))
    if json:
        print_json(structs.asdict(key))
        return
    note(f"Key {key.key_id} of {key.username} until {when(key.expires)}: {' '.join(key.scopes)}.")
    note("It is shown this once; FIRECREST_API_KEY, or api_key in the sites file, is the place for it.")
    print(key.secret)


@keys.command("list")
def list_(
    user: Owner = None,
    site: Site = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """List active API keys."""
    found = run_async(_list_in_store(config, state_dir, user) if user or state_dir or config else _list(site))
    if json:
        print_json([structs.asdict(each) for each in found])
        return
    rows = [
        (
            key.key_id,
            key.name,
            key.username,
            *map(when, (key.created, key.expires, key.last_used)),
            " ".join(key.scopes),
        )
        for key in found
    ]
    print_table(("KEY", "NAME", "USER", "CREATED", "EXPIRES", "LAST USED", "SCOPES"), rows)


@keys.command()
def revoke(
    key_ids: Annotated[list[str], typer.Argument(metavar="KEY...", help="Ids of keys, not the keys themselves.")],
    user: Owner = None,
    site: Site = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Revoke API keys immediately."""
    run_async(
        _revoke_in_store(config, state_dir, user, key_ids) if user or state_dir or config else _revoke(site, key_ids)
    )


async def _create(site: str | None, name: str, scopes: list[Scope] | None, life: int | None) -> NewApiKey:
    from crestline.client import create_api_key

    return await create_api_key(_listening(site), name, scopes=scopes, expires_in=life)


async def _create_in_store(
    config: Path | None,
    state_dir: Path | None,
    user: str,
    groups: list[str],
    name: str,
    scopes: list[Scope] | None,
    life: int | None,
) -> NewApiKey:
    async with gateway_store.open_store(config, state_dir) as (store, settings):
        from crestline.gateway.access import build_api_keys
        from crestline.gateway.identity import Principal
        from crestline.wire.extensions import SCOPES

        owner = Principal(username=user, client_id="", scopes=SCOPES, groups=frozenset(groups), issuer="")
        key = await build_api_keys(settings, store).create(owner, name, scopes, life)
        await gateway_store.note(store, "keys create", f"{key.key_id} {user}")
        return key


async def _list(site: str | None) -> list[ApiKeyInfo]:
    from crestline.client import list_api_keys

    return await list_api_keys(_listening(site))


def _listening(target: str | None) -> client.Site:
    """The site, unless its gateway would have to run on this machine and does not."""
    from crestline.client import find_site

    site = find_site(target)[0]
    check_listening(site.url)
    return site


async def _list_in_store(config: Path | None, state_dir: Path | None, user: str | None) -> list[ApiKeyInfo]:
    async with gateway_store.open_store(config, state_dir) as (store, settings):
        from crestline.gateway.access import build_api_keys

        return await build_api_keys(settings, store).list(user)


async def _revoke(site: str | None, key_ids: list[str]) -> None:
    from crestline.client import revoke_api_key

    several = Several(key_ids)
    for key_id in key_ids:
        with several.one(key_id):
            await revoke_api_key(_listening(site), key_id)
    several.raise_any()


async def _revoke_in_store(config: Path | None, state_dir: Path | None, user: str | None, key_ids: list[str]) -> None:
    async with gateway_store.open_store(config, state_dir) as (store, settings):
        from crestline.gateway.access import build_api_keys

        for key_id in key_ids:
            await build_api_keys(settings, store).revoke(key_id, user)
            await gateway_store.note(store, "keys revoke", key_id)
