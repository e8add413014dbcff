"""Measure the gateway in front of a real Slurm cluster, beside the commands that it replaces.

    python benchmarks/gateway/run.py [--quick] [--json FILE] [QUESTION ...]

Needs Docker (the test cluster), wrk and OpenSSH's client. Traffic stays on this machine.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from site_under_test import site

sys.path.insert(0, str(Path(__file__).parents[1]))

from report import Row, show, write

QUESTIONS = ("get_job", "pollers", "watchers", "submit", "listing", "transfer")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", nargs="*", choices=[*QUESTIONS, []], metavar="QUESTION", help=", ".join(QUESTIONS))
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works")
    parser.add_argument("--json", type=Path, default=RESULTS / "gateway.json")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with site() as running:
        for question in arguments.questions or QUESTIONS:
            running.restart()  # so that what one question leaves in memory is not counted in the next
            found = import_module(question).measure(running, quick=arguments.quick)
            print(show(found), flush=True)
            rows += found
    write(rows, arguments.json)
    print(f"\n{show(rows)}\n\nwritten to {arguments.json}")


if __name__ == "__main__":
    main()
