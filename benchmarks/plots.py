"""Pictures of what was measured, as SVG beside the JSON: the ratios, and each figure that was followed as it grows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

_PLAIN = {"Date": None, "Creator": None}
"""no date in the file: the same figures make the same picture"""


def draw(result: Path) -> None:
    """`<part>-ratios.svg`, and `<part>-growth-<number>.svg` for each curve."""
    pyplot.rcParams["svg.hashsalt"] = "crestline"
    rows: list[dict[str, Any]] = json.loads(result.read_text())["rows"]
    compared = [row for row in rows if row.get("ratio")]
    if compared:
        _ratios(compared, result.with_name(f"{result.stem}-ratios.svg"))
    for number, row in enumerate(each for each in rows if each.get("curve")):
        _growth(row["curve"], result.with_name(f"{result.stem}-growth-{number + 1}.svg"))


def _ratios(rows: list[dict[str, Any]], target: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(8, 0.8 + 0.38 * len(rows)))
    names = [f"{row['what']}\n(beside {row['raw_command']})" for row in rows]
    bars = axes.barh(names, [row["ratio"] for row in rows], color="#3465a4")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.axvline(1, color="black", linewidth=0.8, linestyle="--")
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.tick_params(axis="y", labelsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("ours / the other's")
    _save(figure, target)


def _growth(curve: dict[str, Any], target: Path) -> None:
    figure, axes = pyplot.subplots(figsize=(6, 4))
    axes.loglog(curve["x"], curve["raw"], "--", color="grey", label="without Crestline")
    axes.loglog(curve["x"], curve["ours"], "o-", color="#3465a4", label="Crestline")
    axes.set_xlabel(curve["x_label"])
    axes.set_ylabel(curve["y_label"])
    axes.legend()
    _save(figure, target)


def _save(figure: Any, target: Path) -> None:
    figure.tight_layout()
    figure.savefig(target, metadata=_PLAIN)
    pyplot.close(figure)
