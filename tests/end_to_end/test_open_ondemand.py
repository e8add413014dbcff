"""The command lines of Open OnDemand's Slurm adapter (ood_core), read as it reads them, on two systems.

What the adapter calls, and how it cuts the answers, are facts of ood_core's `job/adapters/slurm.rb`.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.gateway import RunningGateway
from harness.slurm_commands import SlurmCommands
from harness.slurm_gateway import SlurmGateway
from harness.waiting import until_blocking

EXAMPLE = Path(__file__).parents[2] / "examples" / "open_ondemand"
RECORD, UNIT = "\x1e", "\x1f"

QUEUE = {
    "account": "%a", "job_id": "%A", "exec_host": "%B", "min_cpus": "%c", "cpus": "%C", "min_tmp_disk": "%d",
    "nodes": "%D", "end_time": "%e", "dependency": "%E", "features": "%f", "array_job_id": "%F", "group_name": "%g",
    "group_id": "%G", "over_subscribe": "%h", "sockets_per_node": "%H", "array_job_task_id": "%i",
    "cores_per_socket": "%I", "job_name": "%j", "threads_per_core": "%J", "comment": "%k", "array_task_id": "%K",
    "time_limit": "%l", "time_left": "%L", "min_memory": "%m", "time_used": "%M", "req_node": "%n", "node_list": "%N",
    "command": "%o", "contiguous": "%O", "qos": "%q", "partition": "%P", "priority": "%Q", "reason": "%r",
    "start_time": "%S", "state_compact": "%t", "state": "%T", "user": "%u", "user_id": "%U", "reservation": "%v",
    "submit_time": "%V", "wckey": "%w", "licenses": "%W", "excluded_nodes": "%x", "core_specialization": "%X",
    "nice": "%y", "scheduled_nodes": "%Y", "sockets_cores_threads": "%z", "work_dir": "%Z", "gres": "%b",
}  # fmt: skip
ACCOUNTING = (
    "User", "Group", "JobId", "JobName", "Elapsed", "ReqMem", "AllocCPUS", "ReqCPUS", "Timelimit", "State", "TotalCPU",
    "MaxRSS", "Partition", "Submit", "Start", "End", "ReqTRES",
)  # fmt: skip


class Adapter:
    """Calls the programs of a cluster's configuration as ood_core does."""

    def __init__(self, job: dict[str, Any], environment: dict[str, str], place: Path) -> None:
        assert job["adapter"] == "slurm"
        self._job = job
        self._environment = environment
        self._place = place

    def call(self, command: str, *arguments: str, stdin: str = "", **environment: str) -> str:
        program = self._job.get("bin_overrides", {}).get(command) or str(Path(self._job["bin"]) / command)
        words = [*arguments, *([] if command == "sacctmgr" else ["-M", self._job["cluster"]])]
        done = subprocess.run(
            [program, *words],
            input=stdin,
            env=self._environment | environment,
            cwd=self._place,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout

    def submit(self, script: str, *arguments: str, **environment: str) -> str:
        return self.call("sbatch", *arguments, "--parsable", stdin=script, **environment).strip().split(";")[0]

    def jobs(self, job_id: str = "", owner: str = "") -> list[dict[str, str]]:
        words = ["--all", "--states=all", "--noconvert", "-o", RECORD + UNIT.join(QUEUE.values())]
        words += ["-u", owner] if owner else []
        words += ["-j", job_id] if job_id else []
        _, _, *records = self.call("squeue", *words).split(RECORD)  # the cluster's name, the heads
        return [dict(zip(QUEUE, record.strip().split(UNIT), strict=False)) for record in records]


@pytest.fixture(params=["local", "slurm"])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Adapter:
    """The example's configuration, with the folders and the system of this test in it."""
    commands = SlurmCommands(tmp_path / "here")
    gateway: RunningGateway | SlurmGateway
    if request.param == "local":
        gateway = request.getfixturevalue("gateway")
        client = gateway.client
    else:
        gateway = request.getfixturevalue("slurm_gateway")
        client = gateway.client_of("alice")  # type: ignore[attr-defined]
    commands.add_site("cscs", gateway.url, gateway.token_url, client, gateway.system)
    text = (EXAMPLE / "clusters.d" / "daint.yml").read_text()
    text = text.replace("/opt/crestline/slurm", str(commands.link(tmp_path / "slurm")))
    text = text.replace("/opt/crestline/open_ondemand", str(EXAMPLE)).replace("daint@", f"{gateway.system}@")
    return Adapter(yaml.safe_load(text)["v2"]["job"], commands.environment, commands.place)


def test_a_job_in_the_job_composer(adapter: Adapter) -> None:
    script = "#!/bin/bash\necho $GREETING\nsleep 600\n"
    words = ("-H", "-J", "sys/myjobs/default", "-o", "out.log", "-t", "01:00:00", "-n", "1", "--export", "GREETING")
    job_id = adapter.submit(script, *words, GREETING="hello")
    assert job_id.isdigit()
    (info,) = adapter.jobs(job_id)
    assert len(info) == len(QUEUE)
    assert (info["job_id"], info["job_name"], info["state_compact"]) == (job_id, "sys/myjobs/default", "PD")
    assert (info["time_limit"], info["time_used"], info["cpus"], info["nodes"]) == ("1:00:00", "0:00", "1", "1")
    assert (info["start_time"], info["gres"]) == ("N/A", "N/A")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", info["submit_time"])
    owned = adapter.jobs(owner=os.environ.get("USER", "root"))
    assert job_id in {each["job_id"] for each in owned}
    adapter.call("scancel", job_id)
    (info,) = adapter.jobs(job_id)
    assert info["state_compact"] == "CA"
    with pytest.raises(RuntimeError, match="Invalid job id specified"):  # by which the adapter knows an old job
        adapter.jobs("98765432")


def test_history(adapter: Adapter) -> None:
    job_id = adapter.submit("#!/bin/bash\nexit 0\n", "-W", "-J", "past", "--export", "NONE")
    words = ["-P", "--delimiter", UNIT, "-n", "--units", "G", "--allocations", "-o", ",".join(ACCOUNTING)]
    words += ["--state", "COMPLETED", "-j", job_id, "-S", "2020-01-01", "-E", "now"]
    # Accounting hears of the end a little later, and that of Slurm 22.05 of the name later still.
    until_blocking(lambda: "past" in adapter.call("sacct", *words))
    (row,) = adapter.call("sacct", *words).splitlines()
    found = dict(zip(ACCOUNTING, row.split(UNIT), strict=True))
    assert (found["JobId"], found["JobName"], found["State"]) == (job_id, "past", "COMPLETED")
    assert re.fullmatch(r"\d\d:\d\d:\d\d", found["Elapsed"])


def test_system_status(adapter: Adapter) -> None:
    words = adapter.call("sinfo", "-aho %A/%D/%C").strip().split("/")
    assert len(words) == 7
    assert int(words[2]) >= 1
    assert int(words[6]) >= 1
    width = max(len(line.strip()) for line in adapter.call("sinfo", "-o %G").splitlines()) + 2
    lines = adapter.call("sinfo", f"-ahNO ,nodehost,gres:{width},gresused:{width}").splitlines()
    assert all(len(line.split()) == 3 for line in set(lines))
    nodes = adapter.call("sinfo", "-ho", RECORD + UNIT.join(["%c", "%n", "%f"])).split(RECORD)[1:]
    assert nodes
    assert all(len(node.strip().split(UNIT)) == 3 for node in nodes)


def test_what_the_api_cannot_do_is_refused_in_words(adapter: Adapter) -> None:
    for words in (["scontrol", "hold", "1"], ["scontrol", "show", "part", "-o"], ["sacctmgr", "-nP", "show", "users"]):
        with pytest.raises(RuntimeError, match="reached through FirecREST, which cannot do this"):
            adapter.call(*words)
