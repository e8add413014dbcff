"""The example's ReFrame run over two sites."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness.gateway import RunningGateway
from harness.parts import require
from harness.slurm_commands import SlurmCommands
from harness.slurm_gateway import SlurmGateway

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_one_run_on_both(gateway: RunningGateway, slurm_gateway: SlurmGateway, tmp_path: Path) -> None:
    require(bool(shutil.which("gcc")), "there is no `gcc`: install Debian's `gcc` and `libc6-dev`")
    sites = SlurmCommands(tmp_path / "sites")
    sites.add_site("laptop", gateway.url, gateway.token_url, gateway.client, gateway.system)
    alice = slurm_gateway.client_of("alice")
    sites.add_site("centre", slurm_gateway.url, slurm_gateway.token_url, alice, slurm_gateway.system)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("crestline-reframe")),
            *("-C", str(EXAMPLES / "federation" / "reframe_settings.py")),
            *("-c", str(EXAMPLES / "reframe" / "checks" / "hello.py"), "-r", "--report-file", "report.json"),
        ],
        env=sites.environment | {"HOME": str(tmp_path), "COLUMNS": "200"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    cases = json.loads((tmp_path / "report.json").read_text())["runs"][-1]["testcases"]
    found = sorted((case["partition"], case["result"]) for case in cases)
    assert found == [("large", "pass"), ("large", "pass"), ("small", "pass"), ("small", "pass")]
    nodes = {(case["partition"], tuple(case["job_nodelist"])) for case in cases}
    assert any(name.startswith("n0") for partition, names in nodes if partition == "large" for name in names)
    assert {names for partition, names in nodes if partition == "small"} == {(os.uname().nodename.partition(".")[0],)}
