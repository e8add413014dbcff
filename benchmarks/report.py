"""What was measured, beside what it replaces: a table for people, JSON for the documentation."""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil


@dataclass
class Row:
    """One line: `ratio` is ours / raw; `target` says in words what should hold, `met` whether it does.

    `met` is None where nothing is asked for: the figure is there to be known.
    """

    what: str
    ours: float
    unit: str
    target: str
    met: bool | None
    raw: float | None = None
    raw_command: str = ""

    @property
    def ratio(self) -> float | None:
        return self.ours / self.raw if self.raw else None


def show(rows: list[Row]) -> str:
    """As a table of Markdown."""
    lines = ["| what | ours | raw command | ratio | target | met |", "| --- | ---: | ---: | ---: | --- | --- |"]
    for row in rows:
        raw = f"{row.raw:.4g} {row.unit} ({row.raw_command})" if row.raw is not None else "-"
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else "-"
        met = {True: "yes", False: "NO", None: "-"}[row.met]
        lines.append(f"| {row.what} | {row.ours:.4g} {row.unit} | {raw} | {ratio} | {row.target} | {met} |")
    return "\n".join(lines)


def write(rows: list[Row], path: Path) -> None:
    """As JSON, with date and machine: what the page of measurements in the documentation is made from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open("/proc/cpuinfo") as file:
        cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    document = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": cpu,
            "cores": psutil.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "load_before": psutil.getloadavg()[0],
        },
        "commit": commit.stdout.strip(),
        "rows": [asdict(row) | {"ratio": row.ratio} for row in rows],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
