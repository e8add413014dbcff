"""The relay inside a gateway, and `crestline relay` on its own, with a job that has nothing but Python."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from crestline.relay import websocket
from crestline.relay.tokens import HubKey
from crestline.relay.zipapp import agent_program
from harness.gateway import in_thread
from harness.relay import key_file
from harness.waiting import until_blocking

SERVER = """
import http.server, os, socketserver, sys
class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    def get_request(self):
        return super().get_request()[0], ("job", 0)
os.chdir(sys.argv[2])
Server(sys.argv[1], http.server.SimpleHTTPRequestHandler).serve_forever()
"""
PYTHON = [sys.executable, "-I", "-S"]  # without any installed package


@contextmanager
def relay_in_a_gateway(folder: Path, hubs: dict[str, dict[str, str]]) -> Iterator[str]:
    with in_thread(folder / "home", relay={"hubs": hubs}) as gateway:
        yield f"{gateway.url}/relay"


@contextmanager
def relay_on_its_own(folder: Path, hubs: dict[str, dict[str, str]]) -> Iterator[str]:
    lines = [
        f"[hubs.{name}]\nkey_file = '{each['key_file']}'\ningress = '{each['ingress']}'" for name, each in hubs.items()
    ]
    (folder / "relay.toml").write_text("\n".join(lines))
    command = [str(Path(sys.executable).with_name("crestline")), "relay", "--config", str(folder / "relay.toml")]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = next(word for word in process.stdout.readline().split() if word.startswith("ws://"))
        yield url.replace("ws://", "http://").removesuffix("/agents,")
        process.terminate()


@contextmanager
def job(folder: Path, relay: str, token: str) -> Iterator[subprocess.Popen[bytes]]:
    """The agent as a job runs it: one file, a configuration, a server beside it."""
    (folder / "agent.pyz").write_bytes(agent_program())
    config = folder / "agent.json"
    config.touch(0o600)
    paths = {"server_socket": str(folder / "server"), "hub_socket": str(folder / "hub")}
    config.write_text(json.dumps({"url": f"{relay}/agents", "token": token, **paths}))
    site = folder / "site" / "user" / "u"
    site.mkdir(parents=True)
    (site / "hello.txt").write_text("from the job")
    server = [*PYTHON, "-c", SERVER, str(folder / "server"), str(folder / "site")]
    process = subprocess.Popen([*PYTHON, str(folder / "agent.pyz"), str(config), "--", *server])
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.parametrize("serving", [relay_in_a_gateway, relay_on_its_own])
def test_job_is_reached_through_the_relay_until_the_hub_ends_its_session(serving, tmp_path: Path) -> None:
    file = key_file(tmp_path)
    key = HubKey(file.read_bytes())
    session, token = key.new_session(user="u", path="/user/u/", hub_api="http://127.0.0.1:9/hub/api", lifetime=600)
    hubs = {"main": {"key_file": str(file), "ingress": f"unix:{tmp_path / 'ingress'}"}}
    with serving(tmp_path, hubs) as url, job(tmp_path, url, token) as process:
        transport = httpx.HTTPTransport(uds=str(tmp_path / "ingress"))
        with httpx.Client(transport=transport, base_url="http://hub", timeout=60) as http:
            assert _once_it_serves(http, "/user/u/hello.txt").text == "from the job"
            assert http.get("/user/other/").status_code == 503
        with httpx.Client(headers={"Authorization": f"Bearer {key.manager_token()}"}, trust_env=False) as hub:
            assert hub.get(f"{url}/sessions/{session.id}").json()["connected"]
            assert hub.delete(f"{url}/sessions/{session.id}").status_code == 204
        assert process.wait(60) == 143  # SIGTERM: the server was ended, since no session needs it any more


def _once_it_serves(http: httpx.Client, path: str) -> httpx.Response:
    def served() -> list[httpx.Response]:
        answer = http.get(path)
        return [answer] if answer.status_code != 503 else []

    return until_blocking(served, what=path)[0]


def test_relay_asks_for_a_signed_token(tmp_path: Path) -> None:
    hubs = {"main": {"key_file": str(key_file(tmp_path)), "ingress": f"unix:{tmp_path / 'ingress'}"}}
    with relay_in_a_gateway(tmp_path, hubs) as url:
        assert httpx.get(f"{url}/sessions/x", trust_env=False).status_code == 401
        assert httpx.get(f"{url}/nothing", trust_env=False).status_code == 404


def test_gateway_without_hubs_has_no_relay(gateway) -> None:
    assert httpx.get(f"{gateway.url}/relay/sessions/x", trust_env=False).status_code in (401, 404)


@pytest.mark.parametrize(
    ("hub", "said"),
    [
        ({"ingress": "127.0.0.1:0", "key_file": "absent"}, "openssl rand"),
        ({"ingress": "0.0.0.0:0", "key_file": "relay.key"}, "certificate"),
        ({"ingress": "127.0.0.1:0", "key_file": "short"}, "32 bytes"),
        ({"ingress": "127.0.0.1:0", "key_file": "open"}, "chmod 600"),
    ],
)
def test_set_up_that_cannot_work_is_told(hub: dict[str, str], said: str, tmp_path: Path) -> None:
    key_file(tmp_path)
    key_file(tmp_path, "open").chmod(0o644)
    (tmp_path / "short").write_text("short")
    (tmp_path / "short").chmod(0o600)
    lines = f"[hubs.main]\ningress = '{hub['ingress']}'\nkey_file = '{tmp_path / hub['key_file']}'\n"
    (tmp_path / "relay.toml").write_text(lines)
    command = [str(Path(sys.executable).with_name("crestline")), "relay", "--config", str(tmp_path / "relay.toml")]
    done = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 78
    assert said in done.stderr


def test_mask_is_the_same_with_and_without_a_compiled_helper() -> None:
    assert websocket.masked is not websocket.mask_pure_python
    for size in (0, 1, 2, 3, 4, 5, 131_077):
        data, mask = os.urandom(size), os.urandom(4)
        expected = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        assert websocket.masked(mask, data) == websocket.mask_pure_python(mask, data) == expected


def test_agent_is_written_for_older_pythons(tmp_path: Path) -> None:
    (tmp_path / "agent.pyz").write_bytes(agent_program())
    with zipfile.ZipFile(tmp_path / "agent.pyz") as program:
        for name in program.namelist():
            ast.parse(program.read(name), feature_version=(3, 9))
