"""Helm's engine, which renders and lints a chart without a cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from harness.parts import require

FOLDER = Path(__file__).parents[1] / "helm"
_INFO = 1


def render(chart: Path, values: dict[str, Any]) -> dict[str, str]:
    """Return the chart's objects by template.

    Raises:
        ValueError: the chart refuses the values, or Helm's linter found something.
    """
    python = FOLDER / ".venv/bin/python"
    require(python.exists(), "Helm's engine is missing: run `.ci/prepare`.")
    given = json.dumps({"chart": str(chart), "values": values})
    done = subprocess.run([python, FOLDER / "render.py"], input=given, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    if error := answer["objects"].get("error"):
        raise ValueError(error)
    findings = [each for each in answer["messages"] if each["severity"] > _INFO]
    if findings:
        raise ValueError(str(findings))
    found: dict[str, str] = answer["objects"]
    return found
