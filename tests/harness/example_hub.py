"""The hub of examples/jupyterhub/jupyterhub_config.py, its gateway included, with the settings that tests need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from harness.hub import PASSWORD, TOKEN, Hub

EXAMPLES = Path(__file__).parents[2] / "examples" / "jupyterhub"
SETTINGS = f"""
load_subconfig({str(EXAMPLES / "jupyterhub_config.py")!r})
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 20}}  # what is refused is refused in the answer
c.FirecRESTSpawner.hub_name = "example"
c.FirecRESTSpawner.req_submitenv = {{
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
}}
"""
AWAY_FROM_HOME = """
c.FirecRESTSpawner.session_dir = "{folder}/sessions"
c.Spawner.environment = {{
    "IPYTHONDIR": "{folder}/ipython",
    "JUPYTER_CONFIG_DIR": "{folder}/jupyter/config",
    "JUPYTER_DATA_DIR": "{folder}/jupyter/data",
    "JUPYTER_RUNTIME_DIR": "{folder}/jupyter/runtime",
}}
"""


@pytest.fixture(scope="session")
def example_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("example-hub")
    environment = {"HUB_FOLDER": str(folder), "HUB_PASSWORD": PASSWORD}
    hub = Hub(folder, SETTINGS + AWAY_FROM_HOME.format(folder=folder), environment)
    environment["HUB_URL"] = hub.url
    with hub:
        hub.wait((folder / "sites.toml").exists, "the gateway did not start")
        yield hub


def run_code(hub: Hub, user: str, code: str, timeout: float = 180) -> str:
    """Run code in a new kernel of the user's server, as a browser does; returns what it printed.

    Raises:
        AssertionError: the code raised.
    """
    with hub.http() as http:
        answer = http.post(f"/user/{user}/api/kernels", json={})
        assert answer.status_code == 201, answer.text
        kernel = answer.json()["id"]
    url = f"{hub.url.replace('http', 'ws', 1)}/user/{user}/api/kernels/{kernel}/channels"
    with connect(url, additional_headers={"Authorization": f"token {TOKEN}"}, proxy=None) as channel:
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False, "stop_on_error": True}
        header = {
            "msg_id": "the-one",
            "msg_type": "execute_request",
            "username": user,
            "session": "s",
            "version": "5.3",
        }
        request: dict[str, Any] = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        channel.send(json.dumps(request | {"channel": "shell", "buffers": []}))
        printed = []
        while True:
            message = json.loads(channel.recv(timeout))
            if message["parent_header"].get("msg_id") != "the-one":
                continue
            if message["msg_type"] == "stream":
                printed.append(message["content"]["text"])
            if message["msg_type"] == "error":
                raise AssertionError("\n".join(message["content"]["traceback"]))
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return "".join(printed)
