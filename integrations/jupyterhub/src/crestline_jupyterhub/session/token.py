"""Prints a fresh access token of the user's login, for programs in the session: `python3 session.pyz token`.

The hub renews the login and shows it to a server whose role has the scope `admin:auth_state!user`. Needs only Python
3.9.
"""

from __future__ import annotations

import http.client
import json
import os
import shlex
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

VARIABLE = "FIRECREST_TOKEN_COMMAND"
TIMEOUT = 50.0
SCOPE = "admin:auth_state!user"


def command(program: str) -> str:
    """Return the command line that prints a token, for `VARIABLE`."""
    return shlex.join([sys.executable, str(Path(program).resolve()), "token"])


def main() -> None:
    """Run the command; errors go to stderr, with exit code 1."""
    try:
        print(fetch(os.environ))
    except (OSError, ValueError, http.client.HTTPException) as error:
        sys.exit(f"No token from the hub: {error}")


def fetch(environment: Mapping[str, str]) -> str:
    """Return the access token of the hub.

    Raises:
        ValueError: the hub shows no token; contains the reason.
        OSError, http.client.HTTPException: the hub does not respond.
    """
    url, secret = (environment.get(f"JUPYTERHUB_API_{name}", "") for name in ("URL", "TOKEN"))
    if not url or not secret:
        raise ValueError("JUPYTERHUB_API_URL and JUPYTERHUB_API_TOKEN are not set.")
    parts = urlsplit(url)
    connection = _connection(parts.scheme, parts.netloc)
    path = f"{parts.path}/users/{quote(environment.get('JUPYTERHUB_USER', ''), safe='')}"
    connection.request("GET", path, headers={"Authorization": f"token {secret}"})
    answer = connection.getresponse()
    body = answer.read(1 << 20)
    connection.close()
    state = json.loads(body).get("auth_state") if answer.status == 200 else None
    if not state or not state.get("access_token"):
        needed = f"its role needs the scopes {SCOPE} and read:users!user"
        raise ValueError(f"it shows this server no login (HTTP {answer.status}): {needed}.")
    return str(state["access_token"])


def _connection(scheme: str, place: str) -> http.client.HTTPConnection:
    if scheme == "http+unix":
        return _UnixConnection(unquote(place))
    kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    return kind(place, timeout=TIMEOUT)


class _UnixConnection(http.client.HTTPConnection):
    """A connection to the hub's API behind a unix socket, as with the relay."""

    def __init__(self, path: str) -> None:
        super().__init__("hub", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
