"""One OIDC client for hub and gateway: a real provider, whose refresh tokens are good for one use."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from joserfc import jws

from harness.cluster import Cluster
from harness.gateway import in_thread
from harness.hub import Hub
from harness.hub_settings import HUB, QUICK, TINY
from harness.oidc import OidcProvider, serving
from harness.ports import free_ports
from harness.slurm_gateway import SlurmGateway, prepare

LIFETIME = 45
"""of an access token; it is renewed when it has 35 s left"""

SETTINGS = """
from crestline_jupyterhub.tokens import refresh_user
c.JupyterHub.authenticator_class = "generic-oauth"
O = c.GenericOAuthenticator
O.client_id, O.client_secret = {client}
O.oauth_callback_url = "{callback}"
O.authorize_url = "{issuer}/auth"
O.token_url = "{issuer}/token"
O.userdata_from_id_token = True
O.username_claim = "sub"
O.scope = ["openid", "offline_access", "firecrest"]
O.refresh_user_hook = refresh_user
c.Authenticator.enable_auth_state = True
c.Authenticator.auth_refresh_age = 10
c.CryptKeeper.keys = ["{key}"]
c.JupyterHub.default_url = "/hub/home"
c.JupyterHub.allow_named_servers = True
c.FirecRESTSpawner.use_user_token = True
c.FirecRESTSpawner.service_site = "service"
c.FirecRESTSpawner.profile_list = {{
    "local": {{"display_name": "This machine", "default": True}},
    "slurm": {{
        "display_name": "Slurm",
        "spawner_override": {{
            "system": "cluster@site",
            "service_site": "slurm-service",
            "cmd": ["{programs}/jupyterhub-singleuser"],
        }},
    }},
}}
c.FirecRESTSpawner.system = "local@site"
c.FirecRESTSpawner.cancel_patience = 1
c.JupyterHub.load_roles.append({{"name": "server", "scopes": ["users:activity!user", "access:servers!server",
    "admin:auth_state!user", "read:users!user"]}})
c.JupyterHub.load_roles.append({{"name": "user", "scopes": ["self", "admin:auth_state!user"]}})
c.JupyterHub.load_roles[0]["scopes"].append("admin:auth_state")
"""

SITES = """
[sites.site]
url = "{url}"

[sites.service]
url = "{url}"
token_url = "{token_url}"
client_id = "{client_id}"
client_secret = "{secret}"

[sites.slurm-service]
url = "{url}"
token_url = "{token_url}"
client_id = "{slurm_client_id}"
client_secret = "{slurm_secret}"
"""


@dataclass
class Place:
    hub: Hub
    gateway: SlurmGateway
    provider: OidcProvider

    def jobs(self, user: str, system: str = "local") -> list[dict[str, object]]:
        client = self.gateway.client_of("observer") if system == "cluster" else None
        with self.gateway.http(client) as http:
            jobs = http.get(f"/compute/{system}/jobs", params={"allusers": True}).json()["jobs"]
        return [job for job in jobs if f"-{user}-" in job["name"] and job["status"]["state"] in ("PENDING", "RUNNING")]

    def auth_state(self, user: str) -> dict[str, str]:
        with self.hub.http() as http:
            return dict(http.get(f"/hub/api/users/{user}").json()["auth_state"])

    def is_near_its_end(self, user: str) -> bool:
        """Whether the access token that the hub has needs to be renewed."""
        token = self.auth_state(user)["access_token"]
        return float(json.loads(jws.extract_compact(token.encode()).payload)["exp"]) - time.time() < 30

    def log_in(self, user: str) -> httpx.Client:
        """A browser of a user who has signed in."""
        browser = httpx.Client(follow_redirects=True, timeout=60, trust_env=False)
        page = browser.get(f"{self.hub.url}/hub/oauth_login")
        action = re.search(r'action="([^"]+)"', page.text)
        assert action, page.text
        form = {"prompt": "login", "login": user, "password": "anything"}
        page = browser.post(httpx.URL(self.provider.issuer).join(action[1]), data=form)
        assert page.status_code == 200, page.text
        return browser


@pytest.fixture(scope="module")
def place(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("hub")
    (port,) = free_ports(1)
    callback = f"http://127.0.0.1:{port}/hub/oauth_callback"
    with serving(callback, LIFETIME) as provider:
        trusted = {"issuer": provider.issuer, "audience": provider.audience}
        systems = {"local": {}, "cluster": prepare(cluster, folder / "gateway", ("observer",))}
        cluster.share_python()
        with in_thread(folder / "gateway", oidc=[trusted], systems=systems) as running:
            gateway = SlurmGateway(running.url, running.home)
            sites = folder / "sites.toml"
            sites.touch(0o600)
            client_id, secret = gateway.client
            slurm_client_id, slurm_secret = gateway.client_of("observer")
            sites.write_text(
                SITES.format(
                    url=gateway.url,
                    token_url=gateway.token_url,
                    client_id=client_id,
                    secret=secret,
                    slurm_client_id=slurm_client_id,
                    slurm_secret=slurm_secret,
                )
            )
            settings = SETTINGS.format(
                client=provider.hub_client,
                callback=callback,
                issuer=provider.issuer,
                key="0" * 64,
                programs=f"{sys.prefix}/bin",
            )
            settings = HUB + TINY + QUICK + settings
            with Hub(folder, settings, {"CRESTLINE_SITES": str(sites)}, host=cluster.machine, port=port) as hub:
                yield Place(hub, gateway, provider)


def test_jobs_are_the_users_own_and_rotated_tokens_are_kept(place: Place) -> None:
    place.log_in("alice")
    first = place.auth_state("alice")

    for round_of in ("a", "b"):  # a token that is used twice would end the login, and the second round fail
        place.hub.wait(lambda: place.is_near_its_end("alice"), "it lives on")
        names = [f"{round_of}{number}" for number in range(2)]
        with ThreadPoolExecutor() as pool:
            answers = list(pool.map(lambda name: place.hub.spawn("alice", server=name).status_code, names))
        assert set(answers) <= {201, 202}
        for name in names:
            place.hub.ready("alice", name)
        assert [job["user"] for job in place.jobs("alice")] == ["alice", "alice"]
        for name in names:
            place.hub.stop_server("alice", name)
        place.hub.wait(lambda: not place.jobs("alice"), "the jobs go on")
    assert place.auth_state("alice")["refresh_token"] != first["refresh_token"]


def test_a_program_in_the_session_gets_a_fresh_token(place: Place) -> None:
    place.log_in("carl")
    place.hub.spawn("carl")
    place.hub.ready("carl")
    with place.hub.http() as http:
        pid = http.get("/user/carl/environment").json()["pid"]
    lines = Path(f"/proc/{pid}/environ").read_text().split("\0")
    environment = dict(line.split("=", 1) for line in lines if line)
    assert environment["FIRECREST_URL"] == place.gateway.url
    assert environment["FIRECREST_SYSTEM"] == "local"
    command = shlex.split(environment["FIRECREST_TOKEN_COMMAND"])

    first = place.auth_state("carl")["access_token"]
    place.hub.wait(lambda: place.is_near_its_end("carl"), "it lives on")
    token = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    assert token != first  # renewed by the hub
    assert is_good(place, token)
    place.hub.stop_server("carl")


def test_stop_after_the_login_has_expired_cancels(place: Place) -> None:
    place.log_in("bob")
    place.hub.spawn("bob")
    place.hub.spawn("bob", {"profile": "slurm"}, server="slurm")
    place.hub.ready("bob")
    place.hub.ready("bob", "slurm")
    state = place.auth_state("bob")
    client_id, secret = place.provider.hub_client
    form = {"grant_type": "refresh_token", "refresh_token": state["refresh_token"]}
    form |= {"client_id": client_id, "client_secret": secret}
    for _ in range(2):  # a token that is used twice: the provider ends the whole login
        httpx.post(f"{place.provider.issuer}/token", data=form, timeout=60)
    place.hub.wait(lambda: not is_good(place, state["access_token"]), "the access token does not expire")
    assert [job["user"] for job in place.jobs("bob", "cluster")] == ["bob"]
    place.hub.stop_server("bob", "slurm")
    place.hub.wait(lambda: not place.jobs("bob", "cluster"), "the service account did not cancel the job")

    assert len(place.jobs("bob")) == 1
    place.hub.stop_server("bob")
    assert len(place.jobs("bob")) == 1  # the service account of a local scheduler may not cancel others' jobs
    place.log_in("bob")
    place.hub.wait(lambda: not place.jobs("bob"), "the job was not cancelled")


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def is_good(place: Place, token: str) -> bool:
    return httpx.get(f"{place.gateway.url}/status/systems", headers=bearer(token)).status_code == 200


def test_an_unresponsive_provider_delays_no_other_user(place: Place) -> None:
    place.log_in("dina")
    place.hub.wait(lambda: place.is_near_its_end("dina"), "it lives on")
    with ThreadPoolExecutor() as pool:
        place.provider.pause()
        try:
            spawning = pool.submit(place.hub.spawn, "dina")
            with place.hub.http() as http:
                for _ in range(20):
                    assert http.get("/hub/api/", timeout=60).status_code == 200
            assert not spawning.done()  # the hub renews the login before it spawns
        finally:
            place.provider.resume()
        assert spawning.result().status_code in (201, 202)
    place.hub.ready("dina")
    place.hub.stop_server("dina")
