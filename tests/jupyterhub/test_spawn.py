"""A real hub, its real proxy and real single-user servers, on the local scheduler."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.gateway import RunningGateway, in_thread
from harness.hub import Hub, free_ports
from harness.relay import key_file

SETTINGS = f"""
c.FirecRESTSpawner.hub_name = "test"
c.FirecRESTSpawner.req_prologue = "export PATH={Path(sys.executable).parent}:$PATH"
"""


@pytest.fixture(scope="module", params=["direct", "relay"])
def hub(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    options, settings = {}, SETTINGS
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
        with Hub(folder, settings, of(gateway)) as running:
            yield running


def of(gateway: RunningGateway) -> dict[str, str]:
    client_id, secret = gateway.client
    return {
        "FIRECREST_URL": gateway.url,
        "AUTH_TOKEN_URL": gateway.token_url,
        "FIRECREST_CLIENT_ID": client_id,
        "FIRECREST_CLIENT_SECRET": secret,
        "FIRECREST_SYSTEM": gateway.system,
    }


def test_server_spawns_answers_and_stops(hub: Hub) -> None:
    assert hub.spawn("alice").status_code in (201, 202)
    hub.ready("alice")
    with hub.http() as http:
        status = http.get("/user/alice/api/status")
        assert status.status_code == 200
        assert "kernels" in status.json()
        kernel = http.post("/user/alice/api/kernels", json={})
        assert kernel.status_code == 201, kernel.text
    hub.stop_server("alice")
    with hub.http() as http:
        assert http.get("/user/alice/api/status").status_code in (404, 424, 503)
