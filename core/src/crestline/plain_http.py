"""Protect secrets in transit: plain HTTP is allowed only for this machine, unless the user opts in."""

from __future__ import annotations

import ipaddress
import logging
import os
from functools import cache
from urllib.parse import SplitResult, urlsplit

from crestline.model import ConfigError

ALLOW = "CRESTLINE_ALLOW_PLAIN_HTTP"
"""Environment variable. `1` allows plain HTTP, with a warning."""

logger = logging.getLogger(__name__)


def check_url(url: str) -> None:
    """Reject plain HTTP URLs of other machines, and URLs that contain credentials.

    Args:
        url: the URL of a gateway, a token endpoint, or another trusted service. It appears in messages and logs.

    Raises:
        ConfigError: plain HTTP to an address other than loopback that is not allowed, a user name or a password in the
            URL, or an invalid host or port.
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
    """Parse a URL without credentials.

    Raises:
        ConfigError: invalid host or port, or a user name or password in the URL.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its message may contain a password
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
    """Return a URL for messages, without query, user name and password."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else scheme.rpartition("@")[2]


@cache
def _warn(place: str) -> None:
    """Log a warning once for each address."""
    logger.warning("credentials travel to %s in the clear, as %s allows", place, ALLOW)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
