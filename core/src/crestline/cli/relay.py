"""`crestline relay`: a standalone relay, for a FirecREST that has none."""

from __future__ import annotations

import ipaddress
import logging
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crestline.cli.extras import needs_extra
from crestline.cli.help import make_app
from crestline.model import ConfigError

if TYPE_CHECKING:
    from crestline.relay.standalone import Server

app = make_app()


@app.command()
def relay(
    config: Annotated[Path, typer.Option(metavar="FILE", help="TOML file: [hubs.NAME] with key_file and ingress.")],
    host: Annotated[str, typer.Option(help="Address to listen on for the jobs' agents.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)] = 8090,
    certificate: Annotated[Path | None, typer.Option(metavar="PEM", help="Speak TLS with this certificate.")] = None,
    private_key: Annotated[Path | None, typer.Option(metavar="PEM", help="The certificate's key.")] = None,
    allow_plain_http: Annotated[
        bool, typer.Option("--allow-plain-http", help="Listen on other addresses than loopback without TLS.")
    ] = False,
) -> None:
    """Serve the relay: jobs dial in at /relay/agents, hubs' proxies reach them through the configured ingresses."""
    from crestline.relay.config import load_relay_config

    with needs_extra("The relay", "relay"):
        from crestline.relay.standalone import Server
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = load_relay_config(config)
    server = Server(
        settings,
        host,
        port,
        _text(certificate),
        _text(private_key),
        limits=settings.limits,
        trusted_proxies=settings.trusted_proxies,
    )
    name, number = server.address
    if certificate is None and not ipaddress.ip_address(name).is_loopback and not allow_plain_http:
        raise ConfigError(
            "Beyond this machine, session tokens would travel over plain HTTP.",
            hint="Give --certificate, listen on 127.0.0.1 behind a proxy that does TLS, or give --allow-plain-http.",
        )
    scheme = "wss" if certificate else "ws"
    with suppress(KeyboardInterrupt):
        server.run_forever(lambda: _announce(server, f"{scheme}://{name}:{number}/relay/agents"))


def _announce(server: Server, url: str) -> None:
    hubs = ", ".join(f"{hub.name} ({hub.ingress.address})" for hub in server.relay.hubs)
    print(f"Crestline's relay takes agents at {url}, for {hubs or 'no hub'}.", flush=True)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
