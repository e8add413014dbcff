"""The hub of examples/jupyterhub/jupyterhub_config.py, its gateway included, with the settings that tests need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.hub import PASSWORD, Hub
from harness.hub_settings import away_from_home

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


@pytest.fixture(scope="session")
def example_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("example-hub")
    environment = {"HUB_FOLDER": str(folder), "HUB_PASSWORD": PASSWORD}
    hub = Hub(folder, SETTINGS + away_from_home(folder / "gateway" / "files"), environment)
    environment["HUB_URL"] = hub.url
    with hub:
        hub.wait((folder / "sites.toml").exists, "the gateway did not start")
        yield hub
