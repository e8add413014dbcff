"""`make demo` as a user runs it, in a copy of the example with nothing made before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

EXPECTED = {
    "Cu": (
        "copper: Morse pair potential",
        [
            "lattice constant     3.606 A    measured    3.615 (-0.2%)",
            "bulk modulus         139.5 GPa  measured      137 (+1.8%)",
        ],
    ),
    "Si": (
        "silicon: DFT with Si.pz-vbc.UPF",
        ["lattice constant     5.405 A    measured    5.431 (-0.5%)", "bulk modulus          94.7 GPa  measured"],
    ),
}


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, where `.demo` is not the one of this workspace."""
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copytree(ROOT / "examples/airflow", workspace / "examples/airflow")
    return workspace / "examples/airflow"


@pytest.fixture
def bare_path(tmp_path: Path) -> str:
    """A `$PATH` with what the DAG's own tasks need, and no pw.x."""
    for program in ("bash", "grep", "rm"):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    return str(tmp_path)


def choose(path: str | None) -> str:
    """The structure that the demonstration takes with this `$PATH`."""
    code = "import calculations, sys; print(calculations.choose(*sys.argv[1:]).structure.stem)"
    command = [sys.executable, "-c", code, *([path] if path else [])]
    return subprocess.run(
        command, cwd=ROOT / "examples/airflow", capture_output=True, text=True, check=True
    ).stdout.strip()


def demo(example: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(example / "demo.py")],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_it_computes_what_is_measured_and_does_so_again(example: Path, bare_path: str) -> None:
    """First without pw.x, then with what this machine has, and with the settings of a user of other gateways."""
    foreign = {"FIRECREST_URL": "http://127.0.0.1:9", "FIRECREST_SYSTEM": "daint", "AIRFLOW_HOME": "/nonexistent"}
    for environment in ({"PATH": bare_path}, foreign):
        done = demo(example, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        title, values = EXPECTED[choose(environment.get("PATH"))]
        assert title in done.stdout
        for value in values:
            assert value in done.stdout
        live, _, summary = done.stdout.partition("\nTasks\n")
        assert live.index("point 1 of 7") < live.index("point 7 of 7") < live.index("job-submit      success")
        assert summary.count("success") == 7
        assert "/docs" in summary
        assert "crestline serve --state-dir" in summary
        assert not list((example.parents[1] / ".demo/inbox").iterdir())


def test_it_fails_when_a_task_fails(example: Path, bare_path: str) -> None:
    """Here the calculation: its potential is no potential."""
    broken = example.parents[2] / "broken/examples/airflow"
    shutil.copytree(ROOT / "examples/airflow", broken)
    (broken / "inputs/Cu.morse.json").write_text("{}")
    done = demo(broken, PATH=bare_path)
    assert done.returncode == 1
    assert "KeyError: 'r0_angstrom'" in done.stdout
    assert "job-submit      failed" in done.stdout
    assert "log-results   upstream_failed" in done.stdout
