"""Sessions as jobs of real Slurm: over a port of the node, and over a relay."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import tiny_server
from harness.cluster import Cluster
from harness.hub import Hub, free_ports
from harness.hub_settings import HUB, QUICK, variables
from harness.relay import key_file
from harness.slurm_gateway import SlurmGateway

SERVER = """
c.Spawner.cmd = ["python3", "/opt/tiny_server.py"]
c.FirecRESTSpawner.req_partition = "debug"
c.FirecRESTSpawner.req_runtime = "00:20:00"
"""
SESSIONS = "/home/alice/.crestline/jupyterhub"


@pytest.fixture(scope="module", params=["direct", "relay"])
def hub(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    slurm_gateway: SlurmGateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    cluster.put("/opt", packed(Path(tiny_server.__file__)))
    environment = variables(slurm_gateway, slurm_gateway.client_of("alice"))
    if request.param == "direct":
        with Hub(folder, HUB + QUICK + SERVER, environment, host=cluster.machine) as hub:
            yield hub
        return
    settings = HUB + QUICK + SERVER
    with (
        relay(folder, cluster.machine) as more,
        Hub(folder, settings + more, environment, host=cluster.machine) as hub,
    ):
        yield hub


def packed(file: Path) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo(file.name)
        member.size, member.mode = file.stat().st_size, 0o755
        tar.addfile(member, io.BytesIO(file.read_bytes()))
    return archive.getvalue()


@contextmanager
def relay(folder: Path, machine: str) -> Iterator[str]:
    """`crestline relay` where the cluster reaches it; yields the spawner's settings."""
    port, ingress = free_ports(2)
    file = key_file(folder)
    config = folder / "relay.toml"
    config.write_text(f'[hubs.test]\nkey_file = "{file}"\ningress = "127.0.0.1:{ingress}"\n')
    command = [str(Path(sys.executable).with_name("crestline")), "relay", "--config", str(config)]
    process = subprocess.Popen([*command, "--host", machine, "--port", str(port), "--allow-plain-http"])
    try:
        yield f"""
c.FirecRESTSpawner.connect_mode = "relay"
c.FirecRESTSpawner.relay_key_file = "{file}"
c.FirecRESTSpawner.relay_ingress = "http://127.0.0.1:{ingress}"
c.FirecRESTSpawner.relay_url = "http://{machine}:{port}/relay"
"""
    finally:
        process.terminate()
        process.wait(60)


def test_session_runs_shows_no_secret_and_stops(hub: Hub, cluster: Cluster) -> None:
    hub.spawn("alice")
    hub.ready("alice")
    with hub.http() as http:
        answer = http.get("/user/alice/environment")
    assert answer.status_code == 200
    assert "JUPYTERHUB_API_TOKEN" in answer.json()["names"]
    (job_id,) = sessions(cluster)

    text = cluster.check("root", ["bash", "-c", f"cat {SESSIONS}/*/session.json"])
    config = json.loads(text)
    secrets = [config["nonce"], config["environment"]["JUPYTERHUB_API_TOKEN"]]
    secrets += [config["relay"]["token"]] if config["relay"] else []
    shown = [
        cluster.check("root", ["scontrol", "write", "batch_script", job_id, "-"]),
        cluster.check("root", ["scontrol", "show", "job", job_id]),
        cluster.check("root", ["sacct", "-j", job_id, "--batch-script"]),
        cluster.check("root", ["sacct", "-j", job_id, "--env-vars"]),
        cluster.check("root", ["ps", "-eo", "args"]),
        cluster.check("root", ["bash", "-c", "cat /proc/$(pgrep -f 'session.pyz' | head -1)/environ | tr '\\0' '\\n'"]),
        hub.log(),
    ]
    for secret in secrets:
        assert len(secret) > 20
        assert not any(secret in each for each in shown)
    for command in (["cat"], ["ls"]):
        path = f"{SESSIONS}/{Path(config_folder(cluster)).name}"
        assert cluster.exec("bob", [*command, path]).exit_status != 0

    hub.stop_server("alice")
    hub.wait(lambda: not sessions(cluster), "the job goes on")
    hub.wait(lambda: not cluster.check("root", ["find", SESSIONS, "-name", "session.json"]), "the secrets stay")


def sessions(cluster: Cluster) -> list[str]:
    """Alice's sessions that run; jobs of other tests are none."""
    lines = cluster.check("alice", ["squeue", "--me", "-h", "-t", "R,CG", "-o", "%i %j"]).splitlines()
    return [line.split()[0] for line in lines if line.split()[1].startswith("jupyter-")]


def config_folder(cluster: Cluster) -> str:
    return cluster.check("root", ["find", SESSIONS, "-name", "session.json", "-printf", "%h"]).strip()


def test_scancel_is_noticed(hub: Hub, cluster: Cluster) -> None:
    hub.spawn("alice")
    hub.ready("alice")
    cluster.check("alice", ["scancel", "--me"])
    hub.wait(lambda: not (hub.server("alice") or {}).get("ready"), "the hub did not notice")
    hub.wait(lambda: not (hub.server("alice") or {}).get("pending"), "the hub did not end the server")
