"""Detect a stopped gateway on this machine, so that requests to it fail without retries."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

from crestline.model import GatewayUnavailableError


def check_listening(url: str) -> None:
    """Raise if `url` refers to a gateway on this machine that is not running. Other URLs are not checked.

    Raises:
        GatewayUnavailableError: connection refused.
    """
    try:
        address = urlsplit(url)
    except ValueError:
        return  # the client reports the invalid URL
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
        return  # the client reports the invalid address
