"""Whether a gateway of this machine runs: a stopped one is known at once, and no request waits for it."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from crestline.model import GatewayUnavailableError


def check_listening(url: str) -> None:
    """Fail at once where `url` is that of a gateway of this machine that is not running; any other is given time.

    Raises:
        GatewayUnavailableError: connection refused.
    """
    try:
        address = urlsplit(url)
    except ValueError:
        return  # what is wrong with it, the client says
    if address.hostname not in ("127.0.0.1", "::1", "localhost"):
        return
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((address.hostname, port), timeout=1).close()
    except ConnectionRefusedError as error:
        raise GatewayUnavailableError(
            f"No gateway is listening at {address.scheme}://{address.netloc.rpartition('@')[2]}.",
            hint="Start it with `crestline serve`.",
        ) from error
    except (OSError, ValueError):
        return  # what is wrong with the address, the client says
