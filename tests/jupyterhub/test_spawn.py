"""A real hub, its real proxy and real single-user servers, on the local scheduler."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from joserfc import jws

from harness.gateway import in_thread
from harness.hub import Hub
from harness.hub_settings import HERE, away_from_home, variables
from harness.kernel import run_code
from harness.ports import free_ports
from harness.relay import key_file

SETTINGS = f"""{HERE}
c.FirecRESTSpawner.hub_name = "test"
c.FirecRESTSpawner.req_prologue = "export PATH={Path(sys.executable).parent}:$PATH"
"""


@pytest.fixture(scope="module", params=["direct", "relay"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    options, settings = {}, SETTINGS + away_from_home(folder)
    if request.param == "relay":
        (port,) = free_ports(1)
        file = key_file(folder)
        options["relay"] = {"hubs": {"test": {"key_file": str(file), "ingress": f"127.0.0.1:{port}"}}}
        settings += f"""
c.FirecRESTSpawner.connect_mode = "relay"
c.FirecRESTSpawner.relay_key_file = "{file}"
c.FirecRESTSpawner.relay_ingress = "http://127.0.0.1:{port}"
"""
    with in_thread(folder / "gateway", **options) as gateway:
        settings += f'c.FirecRESTSpawner.relay_url = "{gateway.url}/relay"\n'
        with Hub(folder, settings, variables(gateway)) as running:
            yield running


def test_server_spawns_answers_and_stops(hub: Hub) -> None:
    assert hub.spawn("alice").status_code in (201, 202)
    hub.ready("alice")
    with hub.http() as http:
        status = http.get("/user/alice/api/status")
        assert status.status_code == 200
        assert "kernels" in status.json()
    assert run_code(hub, "alice", "print(6 * 7)") == "42\n"
    check_that_others_stay_out(hub)
    hub.stop_server("alice")
    with hub.http() as http:
        assert http.get("/user/alice/api/status").status_code in (404, 424, 503)


def check_that_others_stay_out(hub: Hub) -> None:
    """Neither another user nor a process on the hub's machine gets past the server's authentication, in any mode."""
    with hub.browser("mallory") as browser:
        assert browser.get("/user/alice/api/contents").status_code == 403
        assert browser.get("/user/alice/lab").status_code == 403
    route = re.search(r"Adding user alice to proxy /user/alice/ => (\S+)", hub.log())
    assert route
    assert httpx.get(f"{route[1]}/user/alice/api/contents").status_code == 403
    if 'connect_mode = "relay"' not in hub.settings:
        return
    hub.spawn("mallory")
    hub.ready("mallory")
    sessions = {
        user: json.loads(next((hub.folder / "sessions").glob(f"*-{user}-*/session.json")).read_text())
        for user in ("alice", "mallory")
    }
    mine, theirs = (sessions[user]["relay"] for user in ("mallory", "alice"))
    manage = f"{mine['url'].removesuffix('agents')}sessions/{claims(theirs['token'])['jti']}"
    for method in ("GET", "DELETE"):  # what she knows is good for her own session alone
        assert httpx.request(method, manage, headers={"Authorization": f"Bearer {mine['token']}"}).status_code == 401
    assert claims(mine["token"])["path"] == "/user/mallory/"
    with hub.http() as http:
        assert http.get("/user/alice/api/status").status_code == 200
    hub.stop_server("mallory")


def claims(token: str) -> dict[str, str]:
    return dict(json.loads(jws.extract_compact(token.encode()).payload))
