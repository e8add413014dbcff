"""Tools that shell out to Slurm, at work with Crestline's commands under Slurm's names."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from crestline.cli.slurm.links import COMMANDS
from harness.slurm_commands import SlurmCommands
from harness.waiting import until_blocking


@pytest.fixture
def path(local: SlurmCommands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCommands:
    """The commands come first in PATH, for this process and its children."""
    links = local.link(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{links}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CRESTLINE_SITES", local.environment["CRESTLINE_SITES"])
    monkeypatch.chdir(local.place)
    return local


def test_links_can_be_made_again_and_spare_what_is_there(local: SlurmCommands, tmp_path: Path) -> None:
    links = local.link(tmp_path / "slurm")
    assert sorted(each.name for each in links.iterdir()) == sorted(COMMANDS)
    assert {"sbatch", "srun", "salloc", "squeue", "scancel", "sacct", "sinfo", "scontrol", "sprio"} <= set(COMMANDS)
    local.link(links)
    version = subprocess.run([str(links / "sbatch"), "--version"], check=True, capture_output=True, text=True).stdout
    assert re.fullmatch(r"slurm \d+\.\d+\.\d+ \(crestline .+\)\n", version)
    (links / "sinfo").unlink()
    (links / "sinfo").write_text("somebody's own")
    program = Path(sys.executable).with_name("crestline")
    refused = subprocess.run([program, "slurm-commands", str(links)], capture_output=True, text=True, check=False)
    assert refused.returncode == 65
    assert "is there already" in refused.stderr


def test_dask_jobqueue_computes(path: SlurmCommands, tmp_path: Path) -> None:
    import distributed
    from dask_jobqueue import SLURMCluster

    cluster = SLURMCluster(
        cores=1,
        memory="512MiB",
        walltime="00:10:00",
        queue="normal",
        interface="lo",
        python=sys.executable,
        log_directory=str(tmp_path / "logs"),
        local_directory=str(tmp_path / "worker"),
        scheduler_options={"dashboard_address": None},
    )
    with cluster, distributed.Client(cluster, timeout=60) as client:
        cluster.scale(jobs=1)
        client.wait_for_workers(1, timeout=120)
        assert client.submit(os.getenv, "SLURM_JOB_NAME").result(timeout=60) == "dask-worker"
        (job,) = path("squeue", "--me", "-h", "-n", "dask-worker", "-t", "R", "-o", "%i").split()
    # leaving the cluster has called scancel
    until_blocking(lambda: path("sacct", "-nPX", "-j", job, "-o", "State").startswith("CANCELLED"))


def test_batchspawner_reads_the_state(path: SlurmCommands) -> None:
    from batchspawner import SlurmSpawner

    submit = shlex.split(SlurmSpawner.batch_submit_cmd.default_value)
    script = "#!/bin/bash\n#SBATCH --export=PATH,LANG,GREETING\n#SBATCH --get-user-env=L\n#SBATCH --output=%j.log\n"
    script += "set -euo pipefail\necho $GREETING\nsleep 600\n"
    environment = os.environ | {"GREETING": "hello, world"}
    said = subprocess.run(submit, input=script, env=environment, text=True, capture_output=True, check=True).stdout
    job_id = said.split(";")[0].strip()
    query = SlurmSpawner.batch_query_cmd.default_value.format(job_id=job_id)

    def status() -> str:
        return subprocess.run(shlex.split(query), text=True, capture_output=True, check=True).stdout.strip()

    running = re.compile(SlurmSpawner.state_running_re.default_value)
    pending = re.compile(SlurmSpawner.state_pending_re.default_value)
    while not running.search(now := status()):
        assert pending.search(now), now
    place = re.search(SlurmSpawner.state_exechost_re.default_value, now)
    assert place is not None
    host = place.expand(SlurmSpawner.state_exechost_exp.default_value or r"\1")
    assert host == path("squeue", "-h", "-j", job_id, "-o", "%N").strip()
    log = path.place / f"{job_id}.log"
    while not (log.exists() and log.read_text()):
        status()
    assert log.read_text() == "hello, world\n"
    subprocess.run(
        shlex.split(SlurmSpawner.batch_cancel_cmd.default_value.format(job_id=job_id)), check=True, capture_output=True
    )


def test_nextflow_submits_and_polls(path: SlurmCommands) -> None:
    """The command lines of Nextflow's Slurm executor, and how it reads what they print."""
    (path.place / ".command.run").write_text(
        "#!/bin/bash\n#SBATCH -J nf-hello_(1)\n#SBATCH -o .command.log\n#SBATCH --no-requeue\n"
        "#SBATCH --signal B:USR2@30\n#SBATCH -c 1\n#SBATCH -t 00:05:00\n#SBATCH --mem 256M\n#SBATCH -p normal\n"
        "echo done > result\nsleep 600\n"
    )
    said = subprocess.run(["sbatch", ".command.run"], capture_output=True, text=True, check=True).stdout
    submitted = re.search(r"Submitted batch job (\d+)", said)
    assert submitted is not None
    queue = ["squeue", "--noheader", "-o", "%i %t", "-t", "all", "-p", "normal", "-u", os.environ.get("USER", "root")]
    listed = subprocess.run(queue, capture_output=True, text=True, check=True).stdout
    states = dict(line.split() for line in listed.splitlines())
    assert states[submitted[1]] in ("PD", "CF", "R")
    subprocess.run(["scancel", submitted[1]], check=True)
    assert dict(line.split() for line in path("squeue", *queue[1:]).splitlines())[submitted[1]] in ("CA", "CG")


def test_snakemake_asks_the_accounting(path: SlurmCommands) -> None:
    """The command lines of Snakemake's Slurm executor."""
    job = path("sbatch", "--parsable", "--job-name", "run-1", "-W", "--export=ALL", "--wrap", "true").strip()
    rows = path(
        "sacct", "-X", "--parsable2", "--noheader", "--format=JobIdRaw,State", "--name", "run-1", "-S", "now-1day"
    )
    assert f"{job}|COMPLETED" in rows.splitlines()
