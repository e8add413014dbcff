"""Workflow engines from their own packages, at work with Crestline's commands: the programs of examples/engines."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.cluster import Cluster
from harness.gateway import HOMES
from harness.slurm_commands import BIN, SlurmCommands

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples" / "engines"


@dataclass
class Engine:
    """Runs programs that find the commands first in their PATH, in a directory that they share with their jobs."""

    directory: Path
    environment: dict[str, str]

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            argv,
            cwd=self.directory,
            env=self.environment,
            umask=0,  # the jobs belong to another user
            text=True,
            capture_output=True,
            timeout=600,
        )


@pytest.fixture(params=["local", "slurm"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Engine:
    """On this machine, and with jobs of alice on real Slurm."""
    commands: SlurmCommands = request.getfixturevalue(request.param)
    links = commands.link(tmp_path / "slurm")
    path = os.pathsep.join([str(links), str(BIN), os.environ["PATH"]])
    environment = commands.environment | {"PATH": path, "PYTHONWARNINGS": "ignore"}
    if request.param == "local":
        return Engine(commands.place, environment)
    cluster: Cluster = request.getfixturevalue("cluster")
    directory = Path(tempfile.mkdtemp(dir=cluster.shared))
    directory.chmod(0o1777)
    # Where this machine and the jobs each have their own: Snakemake makes a cache there for its user alone.
    home = tempfile.mkdtemp(dir=HOMES)
    environment |= {"USER": "alice", "LOGNAME": "alice", "HOME": home, "ADDRESS": cluster.machine, "ENCRYPTED": "no"}
    return Engine(directory, environment)


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("simple_slurm_chain", ["one", "two"]),
        ("submitit_sums", ["sum 3", "products [4, 10, 18]", "error FailedJobError True", "ended CANCELLED"]),
        ("psij_states", ["good COMPLETED 0", "bad FAILED 3", "endless CANCELED None", "hello"]),
        ("parsl_squares", ["squares [0, 1, 4]", "job True"]),
        ("dask_adaptive", ["squares [0, 1, 4, 9, 16]", "job dask-worker", "workers left 0"]),
    ],
    ids=["simple-slurm", "submitit", "PSI/J", "Parsl", "dask-jobqueue"],
)
def test_an_engine_runs_its_jobs(engine: Engine, program: str, printed: list[str]) -> None:
    done = engine.run(sys.executable, str(EXAMPLES / f"{program}.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-len(printed) :] == printed


def test_snakemake_runs_groups_and_repeats_what_failed(request: pytest.FixtureRequest, engine: Engine) -> None:
    whole = request.node.callspec.params["engine"] == "slurm"  # each job starts Snakemake twice
    account = "proj" if whole else getpass.getuser()
    shutil.copy(EXAMPLES / "Snakefile", engine.directory)  # the jobs read it, too
    done = engine.run(
        *("snakemake", "--executor", "slurm", "--jobs", "4"),
        *("--default-resources", f"slurm_account={account}", "runtime=5", "mem_mb=100"),
        *("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"),
        *(["total.txt"] if whole else ["second.txt", "numbers/1.txt"]),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (engine.directory / "numbers" / "1.txt").read_text() == "1\n"
    assert (engine.directory / "second.txt").read_text() == "30\n"
    assert not whole or (engine.directory / "total.txt").read_text() == "33\n"
    assert (engine.directory / "tried").exists()  # the first try of a rule that needs two
