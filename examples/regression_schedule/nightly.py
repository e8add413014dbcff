"""One night of regression testing: run the suite, compare its performance with earlier nights, say what is slower.

    python nightly.py --history history -C ../reframe/settings.py -c ../reframe/checks -S build_locally=0

What is not an option of this program is ReFrame's. Each night's report stays in the history. Exit status: 0 if all is
well, 1 if something is slower than it was, 2 if a test failed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LESS_IS_BETTER = frozenset({"s", "ms", "us", "ns", "min"})
"""units of time; of everything else more is better"""


@dataclass(frozen=True)
class Regression:
    """A performance value that is worse than it used to be."""

    what: str
    value: float
    usual: float
    unit: str

    def __str__(self) -> str:
        return f"{self.what}: {self.value:g} {self.unit}, usually {self.usual:g} {self.unit}"


def regressions(new: dict[str, Any], earlier: Iterable[dict[str, Any]], tolerance: float) -> list[Regression]:
    """What is worse in a report than the median of earlier ones, by more than the tolerated share.

    Args:
        new, earlier: ReFrame's run reports.
        tolerance: 0.25 lets a value be a quarter worse.
    """
    usual: dict[str, list[float]] = {}
    for report in earlier:
        for what, value, _ in _values(report):
            usual.setdefault(what, []).append(value)
    found = []
    for what, value, unit in _values(new):
        if what not in usual:
            continue
        median = statistics.median(usual[what])
        is_worse = value > median * (1 + tolerance) if unit in _LESS_IS_BETTER else value < median * (1 - tolerance)
        if is_worse:
            found.append(Regression(what, value, median, unit))
    return found


def _values(report: dict[str, Any]) -> Iterator[tuple[str, float, str]]:
    """Name, value and unit of what the tests that passed have measured."""
    for case in report["runs"][-1]["testcases"]:
        if case["result"] == "pass":
            for name, (value, *_, unit) in _measured(case):
                yield f"{case['display_name']} {name}", value, unit


def _measured(case: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    for name, entry in (case.get("perfvalues") or {}).items():
        yield name, entry[:5]  # value, reference, lower and upper limit, unit


def main() -> int:
    """Run and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=Path, required=True, help="directory with the reports of earlier nights")
    parser.add_argument("--nights", type=int, default=10, help="compare with so many")
    parser.add_argument("--tolerance", type=float, default=0.25, help="share by which a value may be worse")
    options, reframe = parser.parse_known_args()
    options.history.mkdir(parents=True, exist_ok=True)
    earlier = sorted(options.history.glob("*.json"))[-options.nights :]
    report = options.history / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.json"
    command = ["crestline-reframe", *reframe, "-r", "--performance-report", f"--report-file={report}"]
    done = subprocess.run(command, check=False)
    if not report.exists():
        return 2
    slower = regressions(_read(report), map(_read, earlier), options.tolerance)
    for each in slower:
        print(f"SLOWER: {each}")
    print(f"{len(slower)} regressions, compared with {len(earlier)} earlier nights")
    if done.returncode:
        return 2
    return 1 if slower else 0


def _read(report: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(report.read_text())
    return content


if __name__ == "__main__":
    sys.exit(main())
