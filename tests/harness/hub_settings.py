"""Lines of a hub's configuration for the tests: servers that start fast, and a client that waits for nothing long."""

from __future__ import annotations

import sys
from pathlib import Path

from crestline.testing.firecrest import PlainFirecrest
from harness import tiny_server
from harness.gateway import RunningGateway

HUB = """
c.FirecRESTSpawner.hub_name = "test"
c.Spawner.poll_interval = 3600
"""
HERE = """
c.FirecRESTSpawner.node_networks = ["127.0.0.0/8", "172.16.0.0/12"]  # this machine, as jobs and containers see it
"""
TINY = f"""{HERE}
c.FirecRESTSpawner.python = "{sys.executable}"
c.Spawner.cmd = ["{sys.executable}", "{Path(tiny_server.__file__)}"]
"""
QUICK = """
from crestline.client import Policy, PollPolicy, RetryPolicy, SubmitPolicy
from crestline_jupyterhub.connections import connections
connections.policy = Policy(
    retry=RetryPolicy(attempts=2, initial_backoff=0.1, max_backoff=0.3, total_timeout=3.0),
    poll=PollPolicy(min_interval=0.2, max_interval=0.5, list_retry_delay=1.0),
    submit=SubmitPolicy(visibility_timeout=3.0, poll_interval=0.3),
)
"""


def away_from_home(folder: Path) -> str:
    """Sessions on this machine leave nothing in the home of the user who runs the tests."""
    return f"""
c.FirecRESTSpawner.session_dir = "{folder}/sessions"
c.Spawner.environment = {{
    "IPYTHONDIR": "{folder}/ipython",
    "JUPYTER_CONFIG_DIR": "{folder}/jupyter/config",
    "JUPYTER_DATA_DIR": "{folder}/jupyter/data",
    "JUPYTER_RUNTIME_DIR": "{folder}/jupyter/runtime",
}}
"""


def variables(gateway: RunningGateway | PlainFirecrest, client: tuple[str, str] | None = None) -> dict[str, str]:
    """The `FIRECREST_*` variables of a gateway."""
    if isinstance(gateway, PlainFirecrest):
        client = client or (gateway.client_id, gateway.client_secret)
    client_id, secret = client or gateway.client
    return {
        "FIRECREST_URL": gateway.url,
        "AUTH_TOKEN_URL": gateway.token_url,
        "FIRECREST_CLIENT_ID": client_id,
        "FIRECREST_CLIENT_SECRET": secret,
        "FIRECREST_SYSTEM": gateway.system,
    }
