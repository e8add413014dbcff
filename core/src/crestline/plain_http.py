"""No secret travels in the clear: plain HTTP is for this machine, unless the user says otherwise."""

from __future__ import annotations

import ipaddress
import logging
import os
from functools import cache
from urllib.parse import SplitResult, urlsplit

from crestline.model import ConfigError

ALLOW = "CRESTLINE_ALLOW_PLAIN_HTTP"
"""environment variable; `1` allows plain HTTP, with a warning"""

logger = logging.getLogger(__name__)


def check_url(url: str) -> None:
    """Refuse to send a secret or a token to another machine without TLS, and a URL that holds a secret itself.

    Args:
        url: of a gateway, a token endpoint, or a service that a gateway trusts; it stands in messages and logs.

    Raises:
        ConfigError: plain HTTP to an address that is not loopback, and not allowed; or a user name or password in it,
            or an invalid host or port.
    """
    parts = split_url(url)
    if parts.scheme.lower() != "http" or _is_loopback(parts.hostname or ""):
        return
    place = f"http://{parts.hostname}"
    if os.environ.get(ALLOW) != "1":
        raise ConfigError(
            f"{place} is plain HTTP: everyone on the way could read or change what travels.",
            hint=f"Use https, or set {ALLOW}=1 if the network itself is protected.",
        )
    _warn(place)


def split_url(url: str) -> SplitResult:
    """The parts of a URL that can be one and holds no secret.

    Raises:
        ConfigError: it has an invalid host or port, or a user name or a password in it.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text may have a password in it
        raise ConfigError(
            "The URL of a gateway or a token endpoint has an invalid host or port.",
            hint="Write it as https://host:port/path, without credentials: these have fields of their own.",
        ) from None
    if "@" in parts.netloc:
        raise ConfigError(
            f"The URL of {parts.hostname} has a user name or a password in it.",
            hint="Write it without these; credentials have fields of their own.",
        )
    return parts


def bare(url: str) -> str:
    """A URL for messages: without query, user name and password."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else scheme.rpartition("@")[2]


@cache
def _warn(place: str) -> None:
    """Once for each address."""
    logger.warning("credentials travel to %s in the clear, as %s allows", place, ALLOW)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
