"""`crestline serve`: run a gateway on this machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crestline.cli.extras import needs_extra
from crestline.cli.help import make_app
from crestline.cli.options import Json, StateDir
from crestline.cli.output import print_json
from crestline.model import ConfigError

if TYPE_CHECKING:
    from crestline.gateway.config import GatewayConfig
    from crestline.gateway.server import Server
    from crestline.gateway.state_directory import Endpoint, StateDirectory

SITE = "local"
"""Name of the gateway in the sites file. It refers to the gateway that started last."""

app = make_app()


class LogFormat(StrEnum):
    """Format of the lines of the log."""

    TEXT = "text"
    JSON = "json"


class LogLevel(StrEnum):
    """Levels of the gateway's log, the most verbose first."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@app.command()
def serve(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file with the configuration (optional).")
    ] = None,
    state_dir: StateDir = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1, or as configured")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            help="Port to listen on; 0 takes a free one.", min=0, max=65535, show_default="8080, or as configured"
        ),
    ] = None,
    public_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Base of the URLs that clients see, behind a proxy.")
    ] = None,
    allow_plain_http: Annotated[
        bool, typer.Option("--allow-plain-http", help="Listen on other addresses than loopback without TLS.")
    ] = False,
    trust_all_users: Annotated[
        bool,
        typer.Option("--trust-all-users", help="Let users other than the operator use systems on this machine."),
    ] = False,
    log_level: Annotated[LogLevel, typer.Option(help="Level of the log on stderr.")] = LogLevel.WARNING,
    log_format: Annotated[LogFormat, typer.Option(help="Format of log lines: text or JSON objects.")] = LogFormat.TEXT,
    sign_in_link: Annotated[
        bool | None,
        typer.Option(
            "--sign-in-link/--no-sign-in-link",
            help="Print a link that signs in a browser once, within ten minutes.",
            show_default="on a terminal, without --json",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Serve the FirecREST v2 API for this machine or the configured systems, until Ctrl-C.

    It registers itself as the site 'local' in this user's sites file; the gateway that started last has that name.
    """

    def read_config() -> GatewayConfig:
        from crestline.gateway.config import load_config

        given = {"state_dir": state_dir, "host": host, "port": port, "public_url": public_url}
        switches = {"allow_plain_http": allow_plain_http or None, "trust_all_users": trust_all_users or None}
        return load_config(config, **given, **switches)

    settings = read_config()
    if sign_in_link is None:  # a file or a journal stays readable for longer than a screen
        sign_in_link = sys.stdout.isatty() and not json
    try:
        reload = read_config if config else None
        server = _bind(settings, log_level, log_format, reload, with_sign_in_link=sign_in_link)
        with suppress(KeyboardInterrupt):
            server.run_forever(lambda: _announce(settings, server, json))
    except (ConfigError, ExceptionGroup) as error:  # from several systems that start concurrently
        if (other := _running(settings)) is not None:
            raise ConfigError(
                f"A gateway already serves {settings.state_dir} at {other.url}, as process {other.pid}.",
                hint=f"Use that one, stop it with `kill {other.pid}`, or give this one its own --state-dir and --port.",
            ) from error
        raise


def _running(settings: GatewayConfig) -> Endpoint | None:
    """Return the endpoint of another process that serves this state directory, if any."""
    from crestline.gateway.state_directory import StateDirectory

    try:
        endpoint = StateDirectory(settings.state_dir).read_endpoint()
        if endpoint.pid is None or endpoint.pid == os.getpid():
            return None
        os.kill(endpoint.pid, 0)
    except (ConfigError, OSError):
        return None
    return endpoint


def _bind(
    settings: GatewayConfig,
    log_level: LogLevel,
    log_format: LogFormat,
    read_config: Callable[[], GatewayConfig] | None,
    *,
    with_sign_in_link: bool,
) -> Server:
    with needs_extra("The gateway", "gateway"):
        from crestline.gateway.logs import configure_logging
        from crestline.gateway.server import Server
    configure_logging(log_level.upper(), as_json=log_format is LogFormat.JSON)
    return Server(settings, read_config=read_config, with_sign_in_link=with_sign_in_link)


def _announce(settings: GatewayConfig, server: Server, json: bool) -> None:
    """Publish how to connect, in files for programs on this machine and on stdout for people. Prints no secrets."""
    from crestline.gateway.state_directory import Endpoint, StateDirectory

    state_dir = StateDirectory(settings.state_dir)
    endpoint = Endpoint(
        url=server.public_url,
        token_url=f"{server.public_url}/oauth2/token",
        system=next(iter(settings.systems)),
        pid=os.getpid(),
    )
    state_dir.record_endpoint(endpoint)
    sites_file = _register(state_dir, endpoint)
    facts = {
        "url": endpoint.url,
        "token_url": endpoint.token_url,
        "docs": f"{endpoint.url}/docs",
        "state_dir": str(state_dir.path),
        "client_file": str(state_dir.first_client),
        "site": SITE,
        "sites_file": str(sites_file),
        "system": endpoint.system,
    }
    if settings.iri.enabled:
        facts["iri_url"] = f"{endpoint.url}/iri/api/v1"
    if json:
        print_json(facts | ({"sign_in_link": server.sign_in_link} if server.sign_in_link else {}))
        return
    link = server.sign_in_link
    sign_in = f"  sign-in     {link} (works once, for 10 minutes)\n" if link else ""
    iri = f"  IRI API     {facts['iri_url']}, or with v2\n" if settings.iri.enabled else ""
    print(
        f"Crestline serves {', '.join(settings.systems)} at {endpoint.url}\n"
        f"{sign_in}  FirecREST   {endpoint.url}\n{iri}  API docs    {facts['docs']}\n"
        f"  client      id and secret are in {state_dir.first_client}\n"
        f'  shell       eval "$(crestline env --state-dir {shlex.quote(str(state_dir.path))})"\n'
        f"  adapters    site '{SITE}' in {sites_file}\n"
        "Ctrl-C ends it; jobs go on.",
        flush=True,
    )


def _register(state_dir: StateDirectory, endpoint: Endpoint) -> Path:
    from crestline.client import register_site

    client_id, secret = state_dir.read_first_client()
    return register_site(
        SITE,
        url=endpoint.url,
        token_url=endpoint.token_url,
        client_id=client_id,
        client_secret=secret,
        system=endpoint.system,
    )
