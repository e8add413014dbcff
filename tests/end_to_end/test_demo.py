"""`make demo` as a user runs it, in a copy of the example with nothing made before."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, where `.demo` is not the one of this workspace."""
    workspace = tmp_path_factory.mktemp("workspace")
    shutil.copytree(ROOT / "examples/airflow", workspace / "examples/airflow")
    return workspace / "examples/airflow"


def demo(example: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it, without what the tests have set in this process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CRESTLINE"))}
    command = [sys.executable, str(example / "demo.py")]
    return subprocess.run(
        command, cwd=example, env=kept | environment, capture_output=True, text=True, timeout=280, check=False
    )


def test_it_computes_what_is_measured_twice_in_a_row(example: Path) -> None:
    without_pw = str(programs(example))
    for _ in range(2):
        done = demo(example, PATH=without_pw)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "lattice constant     3.606 A    measured    3.615 (-0.2%)" in done.stdout
        assert "bulk modulus         139.5 GPa  measured      137 (+1.8%)" in done.stdout
        live, _, summary = done.stdout.partition("\nTasks\n")
        assert live.index("point 1 of 7") < live.index("point 7 of 7") < live.index("job-submit      success")
        assert summary.count("success") == 7
        assert "/docs" in summary
        assert "crestline serve --home" in summary
        assert not list((example.parents[1] / ".demo/inbox").iterdir())


@pytest.mark.skipif(not os.access("/usr/share/espresso/pseudo/Si.pz-vbc.UPF", os.R_OK), reason="pw.x is not installed")
def test_with_density_functional_theory(example: Path) -> None:
    done = demo(example)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lattice constant     5.405 A    measured    5.431 (-0.5%)" in done.stdout


def test_it_fails_when_a_task_fails(example: Path) -> None:
    """Here the calculation: its potential is no potential."""
    broken = example.with_name("broken")
    shutil.copytree(example, broken)
    (broken / "inputs/Cu.morse.json").write_text("{}")
    done = demo(broken, PATH=str(programs(example)))
    assert done.returncode == 1
    assert "KeyError: 'r0_angstrom'" in done.stdout
    assert "job-submit      failed" in done.stdout
    assert "log-results     upstream_failed" in done.stdout


def programs(example: Path) -> Path:
    """A directory for $PATH with everything in the usual ones but pw.x."""
    directory = example.parents[1] / "bin"
    if not directory.exists():
        directory.mkdir()
        for place in os.defpath.split(os.pathsep)[::-1] + ["/usr/bin", "/bin"]:
            for program in Path(place).iterdir():
                link = directory / program.name
                if program.name != "pw.x" and not link.is_symlink():
                    link.symlink_to(program)
    return directory
