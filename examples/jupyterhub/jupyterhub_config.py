"""A hub for one machine, with a gateway of its own: no cluster, no container, no other service.

    pip install crestline[gateway] crestline-jupyterhub jupyterlab && npm install -g configurable-http-proxy
    HUB_PASSWORD=... jupyterhub --config jupyterhub_config.py

All sessions run as the user who starts the hub: for a workstation, a course's machine, or to try things out. What
changes for a cluster is in slurm_oidc_config.py.
"""

import os
import sys
from pathlib import Path

c = get_config()  # noqa: F821
folder = Path(os.environ.get("HUB_FOLDER", "~/.local/share/crestline-hub")).expanduser()
folder.mkdir(mode=0o700, parents=True, exist_ok=True)
sites = os.environ["CRESTLINE_SITES"] = str(folder / "sites.toml")  # where the gateway says how it is reached

# The gateway, started and kept up by the hub. Sessions outlive both.
c.JupyterHub.services.append(
    {
        "name": "gateway",
        "command": [
            str(Path(sys.executable).with_name("crestline")),
            "serve",
            "--state-dir",
            str(folder / "gateway"),
            "--port",
            "0",
        ],
        "environment": {"CRESTLINE_SITES": sites},
    }
)

c.JupyterHub.spawner_class = "firecrest"
c.FirecRESTSpawner.node_networks = ["127.0.0.0/8"]  # sessions run on the hub's own machine
c.FirecRESTSpawner.python = sys.executable
c.FirecRESTSpawner.req_prologue = f"export PATH={Path(sys.executable).parent}:$PATH"
c.Spawner.default_url = "/lab"
load_subconfig(str(Path(__file__).with_name("form.py")))  # noqa: F821

c.JupyterHub.cleanup_servers = False  # a restart of the hub ends no session
c.JupyterHub.init_spawners_timeout = 1
c.JupyterHub.db_url = f"sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = str(folder / "cookie_secret")
c.ConfigurableHTTPProxy.pid_file = str(folder / "proxy.pid")

c.JupyterHub.bind_url = os.environ.get("HUB_URL", "http://127.0.0.1:8000")
c.JupyterHub.authenticator_class = "shared-password"  # one password for everybody; see JupyterHub for others
c.SharedPasswordAuthenticator.user_password = os.environ["HUB_PASSWORD"]
c.Authenticator.allow_all = True
