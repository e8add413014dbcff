"""Real single-user servers as jobs of real Slurm: over a port of the node, and over a relay."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crestline.client import register_site
from harness.cluster import Cluster
from harness.example_hub import EXAMPLES
from harness.hub import Hub
from harness.hub_settings import HUB, QUICK, variables
from harness.kernel import run_code
from harness.relay import relay_process
from harness.slurm_gateway import SlurmGateway

SERVER = f"""
load_subconfig({str(EXAMPLES / "form.py")!r})
clusters = c.FirecRESTSpawner.profile_list["jupyterlab"]["profile_options"]["ipyparallel"]["choices"]
clusters["mpi"]["spawner_override"]["clusters"]["ipyparallel"]["launcher"] = "mpiexec"  # this Slurm's srun knows no MPI
c.FirecRESTSpawner.req_prologue = "export PATH={sys.prefix}/bin:$PATH"
c.FirecRESTSpawner.req_memory = "1G"  # Dask believes the limit that Slurm sets
c.Spawner.args = []
c.FirecRESTSpawner.profile_list["iri"] = {{
    "display_name": "The same by another API", "spawner_override": {{"system": "cluster@iri"}}
}}
"""
SESSIONS = "/home/alice/.crestline/jupyterhub"
TWO_NODES = {"queue": "debug", "nodes": 2, "tasks": 2}
IPYPARALLEL = """
import os
import ipyparallel as ipp
client = ipp.Client(profile_dir=os.environ["IPP_PROFILE_DIR"], timeout=120)
client.wait_for_engines(2, timeout=120)
print(sorted(client[:].apply_sync(lambda: __import__("os").environ["OMPI_COMM_WORLD_RANK"])))
"""
DASK = """
import os
from dask.distributed import Client
client = Client(scheduler_file=os.environ["DASK_SCHEDULER_FILE"], timeout="120s")
client.wait_for_workers(2, timeout="120s")
print(sorted(client.run(lambda: __import__("os").environ["SLURMD_NODENAME"]).values()))
"""


@pytest.fixture(scope="module", params=["direct", "relay"])
def hub(
    request: pytest.FixtureRequest,
    cluster: Cluster,
    slurm_gateway: SlurmGateway,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("hub")
    cluster.share_python()
    alice = slurm_gateway.client_of("alice")
    sites = folder / "sites.toml"
    register_site(
        "iri",
        file=sites,
        url=f"{slurm_gateway.url}/iri",
        api="iri",
        token_url=slurm_gateway.token_url,
        client_id=alice[0],
        client_secret=alice[1],
    )
    environment = variables(slurm_gateway, alice) | {"CRESTLINE_SITES": str(sites)}
    settings = HUB + QUICK + SERVER
    if request.param == "direct":
        with Hub(folder, settings, environment, host=cluster.machine) as hub:
            yield hub
        return
    with (
        relay_process(folder, cluster.machine) as more,
        Hub(folder, settings + more, environment, host=cluster.machine) as hub,
    ):
        yield hub


def test_a_cluster_of_the_form_answers_in_a_notebook(hub: Hub, cluster: Cluster) -> None:
    with hub.browser("alice") as browser:
        form = browser.get("/hub/spawn").text
    assert "of 3 nodes free)" in form
    assert '<option value="cpu">' in form  # a feature of the nodes
    kind, code, found = (
        ("dask", DASK, "['n01', 'n02']") if "relay" in hub.settings else ("ipyparallel", IPYPARALLEL, "['0', '1']")
    )
    cluster.check("root", ["scontrol", "update", "PartitionName=debug", "State=DOWN"])
    try:
        hub.spawn("alice", TWO_NODES | {kind: "yes" if kind == "dask" else "mpi"})
        job_id = read_progress_until_it_runs(hub, cluster)
        hub.ready("alice")
        assert "NumNodes=2 " in cluster.check("alice", ["scontrol", "show", "job", job_id])
        assert run_code(hub, "alice", code).splitlines()[-1] == found
    finally:
        cluster.check("root", ["scontrol", "update", "PartitionName=debug", "State=UP"])
        hub.stop_server("alice")
    hub.wait(lambda: not sessions(cluster), "the job goes on")
    hub.wait(lambda: not cluster.check("root", ["find", SESSIONS, "-name", "session.json"]), "the secrets stay")


@pytest.mark.parametrize("hub", ["relay"], indirect=True)
def test_a_session_of_another_site_by_the_iri_api(hub: Hub, cluster: Cluster) -> None:
    hub.spawn("alice", {"profile": "iri"})
    hub.ready("alice")
    assert len(sessions(cluster)) == 1
    assert is_up(hub, "alice")
    hub.stop_server("alice")
    hub.wait(lambda: not sessions(cluster), "the job goes on")


def test_a_session_shows_no_secret_and_comes_back_when_slurm_requeues_it(hub: Hub, cluster: Cluster) -> None:
    hub.spawn("alice")
    hub.ready("alice")
    (job_id,) = sessions(cluster)
    check_that_nobody_reads_secrets(hub, cluster, job_id)

    first = run_code(hub, "alice", RUN)
    cluster.check("root", ["scontrol", "requeue", job_id])
    hub.wait(lambda: "PENDING" in state(cluster, job_id), "the job is not requeued")
    start_again(cluster, job_id)
    hub.wait(lambda: is_up(hub, "alice"), "the session does not come back")
    assert (hub.server("alice") or {})["ready"]
    assert run_code(hub, "alice", RUN) != first
    assert sessions(cluster) == [job_id]

    cluster.check("alice", ["scancel", job_id])
    hub.wait(lambda: not (hub.server("alice") or {}).get("ready"), "the hub did not notice")
    hub.wait(lambda: not (hub.server("alice") or {}).get("pending"), "the hub did not end the server")


def test_hub_killed_while_slurm_holds_a_requeued_job_takes_it_up_again(hub: Hub, cluster: Cluster) -> None:
    hub.spawn("alice")
    url = hub.ready("alice")["url"]
    (job_id,) = sessions(cluster)
    run_code(hub, "alice", "open('notes.txt', 'w').write('kept')")
    cluster.check("root", ["scontrol", "requeuehold", job_id])
    hub.wait(lambda: "PENDING" in state(cluster, job_id), "the job is not requeued")

    hub.kill()
    hub.start()
    assert (hub.server("alice") or {})["url"] == url
    with hub.http() as http:
        assert http.get("/user/alice/api/status").status_code != 200
    assert sessions(cluster, "PD") == [job_id]

    cluster.check("root", ["scontrol", "release", job_id])
    start_again(cluster, job_id)
    hub.wait(lambda: is_up(hub, "alice"), "the session does not come back")
    assert hub.ready("alice")["url"] == url
    assert run_code(hub, "alice", f"print(open('notes.txt').read()); {RUN}").split() == ["kept", "1"]
    assert sessions(cluster) == [job_id]
    hub.stop_server("alice")
    hub.wait(lambda: not sessions(cluster), "the job goes on")


RUN = "import os; print(os.environ.get('SLURM_RESTART_COUNT', 'the first'))"


def check_that_nobody_reads_secrets(hub: Hub, cluster: Cluster, job_id: str) -> None:
    (file,) = cluster.check("root", ["find", SESSIONS, "-name", "session.json"]).split()
    config = json.loads(cluster.check("alice", ["cat", file]))
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
    for command in (["cat", file], ["ls", str(Path(file).parent)]):
        assert cluster.exec("bob", command).exit_status != 0


def read_progress_until_it_runs(hub: Hub, cluster: Cluster) -> str:
    """What the user reads meanwhile: why it waits, when it is expected to start, its log. Returns the job's id."""
    with hub.http() as http, http.stream("GET", "/hub/api/users/alice/server/progress", timeout=240) as events:
        lines = events.iter_lines()
        assert any("is in the queue: the partition is down." in line for line in lines)
        (job_id,) = sessions(cluster, "PD")
        cluster.check("root", ["scontrol", "update", f"jobid={job_id}", "StartTime=now+1hour"])
        assert any("It is expected to start at" in line for line in lines)
        cluster.check("root", ["scontrol", "update", "PartitionName=debug", "State=UP"])
        cluster.check("root", ["scontrol", "update", f"jobid={job_id}", "StartTime=now"])
        assert any("the server is starting" in line for line in lines)
        assert any('"progress": 80' in line for line in lines), "no line of the log"
    return job_id


def sessions(cluster: Cluster, states: str = "R,CG") -> list[str]:
    """Alice's sessions that run; jobs of other tests are none."""
    lines = cluster.check("alice", ["squeue", "--me", "-h", "-t", states, "-o", "%i %j"]).splitlines()
    return [line.split()[0] for line in lines if line.split()[1].startswith("jupyter-")]


def state(cluster: Cluster, job_id: str) -> str:
    return cluster.check("alice", ["squeue", "-h", "-j", job_id, "-o", "%T"])


def start_again(cluster: Cluster, job_id: str) -> None:
    """Start a requeued job soon, where Slurm waits two minutes.

    Slurm refuses the credential of a second run that begins in the second in which it revoked that of the first.
    """
    cluster.check("root", ["scontrol", "update", f"jobid={job_id}", "StartTime=now+2"])


def is_up(hub: Hub, user: str) -> bool:
    with hub.http() as http:
        try:
            return http.get(f"/user/{user}/api/status").status_code == 200
        except httpx.TransportError:
            return False
