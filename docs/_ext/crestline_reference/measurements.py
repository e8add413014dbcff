"""What `make bench` has measured: a section for each file of `docs/measurements`, with its charts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from crestline_reference.charts import CHARTS, TITLES, draw
from crestline_reference.tables import code, table

FOLDER = Path(__file__).parents[2] / "measurements"
_HEAD = ["what", "ours", "what it replaces", "ratio", "aim", "met"]
_MET = {True: "yes", False: "**no**", None: ""}

_HIGHLIGHTS = ("gateway", "airflow-waiting", "ci")
"""files whose first chart is on the landing page"""


def highlights() -> str:
    """The charts of three figures, each beside what it replaces, and where they were measured."""
    lines = []
    for name in _HIGHLIGHTS:
        measured = json.loads((FOLDER / f"{name}.json").read_text())
        lines += ["```{raw} html", *draw(CHARTS[name][0], measured["rows"]), "```"]
    return "\n".join(lines)


def markdown() -> str:
    """For each file of `benchmarks/report.py` its charts, then machine, date and all rows."""
    return "\n".join(line for name, title in TITLES.items() for line in _section(name, title))


def _section(name: str, title: str) -> Iterator[str]:
    file = FOLDER / f"{name}.json"
    if not file.exists():
        return
    measured = json.loads(file.read_text())
    yield f"## {title}\n"
    yield "```{raw} html"
    for chart in CHARTS[name]:
        yield from draw(chart, measured["rows"])
    yield "```\n"
    yield f":::{{dropdown}} All figures of {title}\n"
    yield f"{_origin(measured)}\n"
    yield table(_HEAD, (_row(each) for each in measured["rows"]), right=(1, 3))
    yield ":::\n"


def _origin(measured: dict[str, Any]) -> str:
    machine = measured["machine"]
    facts = [f"{machine['cores']} cores of {machine['cpu']}", f"{machine['memory_gib']} GiB"]
    facts += [f"Linux {machine['kernel']}", f"Python {machine['python']}", f"load before {machine['load_before']:.1f}"]
    return f"{measured['date']}, at {code(measured['commit'])}, on one machine: {', '.join(facts)}."


def _row(row: dict[str, Any]) -> list[str]:
    raw = f"{row['raw']:.4g} {row['unit']} ({code(row['raw_command'])})" if row["raw"] is not None else ""
    ratio = f"{row['ratio']:.2f}" if row["ratio"] is not None else ""
    return [row["what"], f"{row['ours']:.4g} {row['unit']}", raw, ratio, row["target"], _MET[row["met"]]]
