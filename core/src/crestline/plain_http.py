"""No secret travels in the clear: plain HTTP is for this machine, unless the user says otherwise."""

from __future__ import annotations

import ipaddress
import logging
import os
from functools import cache
from urllib.parse import urlsplit

from crestline.model import ConfigError

ALLOW = "CRESTLINE_ALLOW_PLAIN_HTTP"
"""environment variable; `1` allows plain HTTP, with a warning"""

logger = logging.getLogger(__name__)


def check_url(url: str) -> None:
    """Refuse to send a secret or a token to another machine without TLS, and a URL that holds a secret itself.

    Args:
        url: of a gateway, a token endpoint, or a service that a gateway trusts; it stands in messages and logs.

    Raises:
        ConfigError: plain HTTP to an address that is not loopback, and not allowed; or a user name or password in it.
    """
    parts = urlsplit(url)
    if "@" in parts.netloc:
        raise ConfigError(
            f"The URL of {parts.hostname} has a user name or a password in it.",
            hint="Write it without these; credentials have fields of their own.",
        )
    if parts.scheme.lower() != "http" or _is_loopback(parts.hostname or ""):
        return
    place = f"http://{parts.hostname}"
    if os.environ.get(ALLOW) != "1":
        raise ConfigError(
            f"{place} is plain HTTP: everyone on the way could read or change what travels.",
            hint=f"Use https, or set {ALLOW}=1 if the network itself is protected.",
        )
    _warn(place)


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
