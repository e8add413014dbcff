"""Two nights of the scheduled pipeline: in the second the system's compiler makes slow programs, and that is said."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from harness.gateway import RunningGateway
from harness.parts import require
from harness.sites import gateway_site

EXAMPLES = Path(__file__).parents[2] / "examples"
[COMMAND] = yaml.safe_load((EXAMPLES / "regression_schedule" / ".gitlab-ci.yml").read_text())["nightly"]["script"]
FEW = "--system=mycluster:normal -n Stream"
SLOW_COMPILER = "gcc() { command gcc '-Ddouble=_Atomic double' \"$@\"; }"


def _night(gateway: RunningGateway, place: Path, options: str) -> subprocess.CompletedProcess[str]:
    site = gateway_site(gateway)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(place),
        "CI_PIPELINE_SOURCE": "schedule",
        "FIRECREST_URL": site.url,
        "AUTH_TOKEN_URL": site.token_url or "",
        "FIRECREST_SYSTEM": site.system or "",
        "FIRECREST_CLIENT_ID": site.client_id or "",
        "FIRECREST_CLIENT_SECRET": site.client_secret or "",
    }
    command = COMMAND.replace("$REFRAME_OPTIONS", options)
    return subprocess.run(
        ["bash", "-c", command], cwd=place, env=environment, capture_output=True, text=True, timeout=240, check=False
    )


def test_a_slower_night_is_flagged(gateway: RunningGateway, tmp_path: Path) -> None:
    require(shutil.which("gcc") is not None, "there is no `gcc`: install Debian's `gcc` and `libc6-dev`")
    (tmp_path / "examples").symlink_to(EXAMPLES)
    first = _night(gateway, tmp_path, FEW)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "0 regressions, compared with 0 earlier nights" in first.stdout
    second = _night(gateway, tmp_path, f"{FEW} -S {shlex.quote(f'StreamBuild.prebuild_cmds={SLOW_COMPILER}')}")
    assert second.returncode == 1, second.stdout + second.stderr
    assert "compared with 1 earlier nights" in second.stdout
    for thousands in (100, 500, 1000):
        for loop in ("copy", "triad"):
            assert f"SLOWER: Stream %thousands={thousands} mycluster:normal:{loop}: " in second.stdout
    assert len(list((tmp_path / "history").glob("*.json"))) == 2
