"""A fresh token inside a session whose hub is behind a unix socket, with a Python that has nothing installed."""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pytest

from crestline_jupyterhub.session.program import session_program

STATES = {"alice": {"access_token": "a-fresh-token"}, "bob": None}


class Hub(BaseHTTPRequestHandler):
    """Shows users' logins where the path and the token are right."""

    def do_GET(self) -> None:
        right = self.headers["Authorization"] == "token the-servers-own" and self.path.startswith("/hub/api/users/")
        name = self.path.rpartition("/")[2]
        self.send_response(200 if right else 403)
        self.end_headers()
        self.wfile.write(json.dumps({"name": name, "auth_state": STATES[name]} if right else {}).encode())

    def address_string(self) -> str:
        return "a unix socket"


@contextmanager
def hub(path: Path) -> Iterator[str]:
    with socketserver.ThreadingUnixStreamServer(str(path), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http+unix://{quote(str(path), safe='')}/hub/api"
        server.shutdown()


@pytest.mark.parametrize(
    ("user", "token", "printed", "told"),
    [
        ("alice", "the-servers-own", "a-fresh-token\n", ""),
        ("bob", "the-servers-own", "", "admin:auth_state!user"),
        ("alice", "another", "", "HTTP 403"),
    ],
)
def test_token_is_asked_of_the_hub(user: str, token: str, printed: str, told: str, tmp_path: Path) -> None:
    program = tmp_path / "session.pyz"
    program.write_bytes(session_program())
    with hub(tmp_path / "hub") as url:
        environment = {"JUPYTERHUB_API_URL": url, "JUPYTERHUB_API_TOKEN": token, "JUPYTERHUB_USER": user}
        command = [sys.executable, "-I", "-S", str(program), "token"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == printed
    assert (done.returncode, done.stderr) == (0, "") if printed else done.returncode == 1
    assert told in done.stderr
    assert token not in done.stderr
