"""Snakemake with the plug-ins of examples/snakemake: jobs of a system that shares no file system with this machine."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from harness.slurm_commands import BIN, SlurmCommands

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "snakemake"


@pytest.mark.parametrize("where", ["local", "slurm"])
def test_a_workflow_of_this_machine_runs_there(
    where: str, request: pytest.FixtureRequest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its input is sent once, its result comes back once, and between them the files stay on the system."""
    commands: SlurmCommands = request.getfixturevalue(where)
    target = {"local": "local@laptop", "slurm": "cluster@centre"}[where]
    directory = {"local": str(tmp_path / "there"), "slurm": f"/home/alice/{tmp_path.name}"}[where]
    here = commands.place
    shutil.copy(EXAMPLE / "Snakefile", here)
    (here / "numbers.txt").write_text("1\n2\n")
    caplog.set_level(logging.INFO)
    done = subprocess.run(
        [
            *("snakemake", "--executor", "crestline", "--jobs", "4", "--seconds-between-status-checks", "1"),
            *(
                "--default-storage-provider",
                "crestline",
                "--default-storage-prefix",
                f"firecrest://{target}{directory}",
            ),
            *("--shared-fs-usage", "none", "--crestline-setup", f"export PATH={BIN}:$PATH"),
        ],
        cwd=here,
        env=commands.environment | {"PYTHONPATH": str(EXAMPLE), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        text=True,
        capture_output=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (here / "result.txt").read_text() == "35\n"  # 1 and 4, and the 30 of the second try
    assert not list(here.glob("**/squares"))
    answers = [record.getMessage().split() for record in caplog.records if record.name == "crestline.access"]
    sent = Counter(words[1] for words in answers if words[2].endswith("/ops/content") and words[3].startswith("2"))
    assert sent == {"PUT": 3, "GET": 1}  # the input, the workflow's sources and the jobs' storage plug-in; the result
    assert not any("/ops/upload" in words[2] or "/ops/download" in words[2] or "/tar" in words[2] for words in answers)
