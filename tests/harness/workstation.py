"""The example of "Write a facility backend", installed as a plug-in is."""

from __future__ import annotations

import tomllib
from pathlib import Path

from harness.page_blocks import ROOT

EXAMPLE = ROOT / "examples/facility_backend"


def install(directory: Path) -> list[Path]:
    """Write the distribution's metadata below a directory; returns what has to be on Python's path."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    info = directory / "crestline_workstation-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crestline-workstation\nVersion: 1.0\n")
    lines = [f"{name} = {value}\n" for name, value in project["entry-points"]["crestline.backends"].items()]
    (info / "entry_points.txt").write_text("[crestline.backends]\n" + "".join(lines))
    return [directory, EXAMPLE]
