"""A hub for a Slurm site: users log in at the site's OIDC provider, and each session is a job of their own.

The gateway is a FirecREST v2, or `crestline serve` (examples/gateway); both take the tokens of the same provider.
Compute nodes need no open port: sessions dial out to the relay (docs/how-to/relay.md). Environment: OIDC_CLIENT_ID,
OIDC_CLIENT_SECRET, JUPYTERHUB_CRYPT_KEY (`openssl rand -hex 32`, the same at every start), and CRESTLINE_SITES
(sites.toml).
"""

import os
from pathlib import Path

from crestline_jupyterhub.tokens import refresh_user

c = get_config()  # noqa: F821

HUB = "https://jupyter.example.org"
GATEWAY = "https://hpc.example.org/firecrest"
PROVIDER = "https://auth.example.org/realms/hpc/protocol/openid-connect"
STATE = "/var/lib/jupyterhub"

# Login. The hub keeps the tokens, encrypted, and renews them ahead of time: a session acts as its user.
c.JupyterHub.authenticator_class = "generic-oauth"
c.GenericOAuthenticator.client_id = os.environ["OIDC_CLIENT_ID"]
c.GenericOAuthenticator.client_secret = os.environ["OIDC_CLIENT_SECRET"]
c.GenericOAuthenticator.oauth_callback_url = f"{HUB}/hub/oauth_callback"
c.GenericOAuthenticator.authorize_url = f"{PROVIDER}/auth"
c.GenericOAuthenticator.token_url = f"{PROVIDER}/token"
c.GenericOAuthenticator.userdata_url = f"{PROVIDER}/userinfo"
c.GenericOAuthenticator.username_claim = "preferred_username"
c.GenericOAuthenticator.scope = ["openid", "profile", "firecrest-v2"]
c.GenericOAuthenticator.refresh_user_hook = refresh_user  # hub and spawner renew through one source
c.Authenticator.enable_auth_state = True
c.Authenticator.auth_refresh_age = 240  # shorter than an access token's life
c.Authenticator.allow_all = True  # or allowed_groups
c.JupyterHub.load_roles = [  # with admin:auth_state!user, programs in a session get a fresh token of the gateway
    {"name": "user", "scopes": ["self", "admin:auth_state!user"]},
    {
        "name": "server",
        "scopes": ["users:activity!user", "access:servers!server", "read:users!user", "admin:auth_state!user"],
    },
]

# Sessions.
c.JupyterHub.spawner_class = "firecrest"
c.FirecRESTSpawner.system = "cluster@hpc"
c.FirecRESTSpawner.use_user_token = True
c.FirecRESTSpawner.service_site = "hpc-service"
c.FirecRESTSpawner.hub_name = "jupyter"
c.FirecRESTSpawner.connect_mode = "relay"
c.FirecRESTSpawner.relay_url = f"{GATEWAY}/relay"
c.FirecRESTSpawner.relay_ingress = "http://127.0.0.1:9001"
c.FirecRESTSpawner.relay_key_file = "/etc/jupyterhub/relay.key"
c.FirecRESTSpawner.start_timeout = 3600  # seconds that a user waits in the queue
c.FirecRESTSpawner.software = {"modules": ["jupyterlab"]}
c.Spawner.default_url = "/lab"
load_subconfig(str(Path(__file__).with_name("form.py")))  # noqa: F821

c.JupyterHub.bind_url = "http://127.0.0.1:8000"  # a reverse proxy does TLS in front of it
c.JupyterHub.public_url = HUB
c.JupyterHub.cleanup_servers = False  # a restart of the hub ends no session
c.JupyterHub.init_spawners_timeout = 1
c.JupyterHub.db_url = f"sqlite:///{STATE}/hub.sqlite"
c.JupyterHub.cookie_secret_file = f"{STATE}/cookie_secret"
c.ConfigurableHTTPProxy.pid_file = f"{STATE}/proxy.pid"
