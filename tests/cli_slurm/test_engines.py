"""Workflow engines from their own packages, at work with Crestline's commands: the programs of examples/engines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.slurm_commands import BIN, SlurmCommands

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples" / "engines"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(local: SlurmCommands, tmp_path: Path) -> Run:
    """Runs a program that finds the commands first in its PATH."""
    links = local.link(tmp_path / "slurm")
    path = os.pathsep.join([str(links), str(BIN), os.environ["PATH"]])

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv,
            cwd=local.place,
            env=local.environment | {"PATH": path, "PYTHONWARNINGS": "ignore"},
            text=True,
            capture_output=True,
            timeout=240,
        )

    return run


@pytest.mark.parametrize(
    ("program", "printed"),
    [
        ("simple_slurm_chain", ["one", "two"]),
        ("submitit_sums", ["sum 3", "products [4, 10, 18]", "error FailedJobError True", "ended CANCELLED"]),
        ("psij_states", ["good COMPLETED 0", "bad FAILED 3", "endless CANCELED None", "hello"]),
        ("parsl_squares", ["squares [0, 1, 4]", "job True"]),
    ],
    ids=["simple-slurm", "submitit", "PSI/J", "Parsl"],
)
def test_an_engine_runs_its_jobs(run: Run, program: str, printed: list[str]) -> None:
    done = run(sys.executable, str(EXAMPLES / f"{program}.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-len(printed) :] == printed


def test_snakemake_runs_groups_and_repeats_what_failed(run: Run, local: SlurmCommands) -> None:
    done = run(
        *("snakemake", "--snakefile", str(EXAMPLES / "Snakefile"), "--executor", "slurm", "--jobs", "4"),
        *("--default-resources", "runtime=5", "mem_mb=100"),
        *("--slurm-init-seconds-before-status-checks", "1", "--seconds-between-status-checks", "1"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (local.place / "total.txt").read_text() == "33\n"
    assert (local.place / "tried").exists()  # the first try of a rule that needs two
