"""`python -m crestline.testing.simulation SUBJECT`: run seeds, and print a shrunk time line of one that fails."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence

from crestline.testing.simulation.runner import SUBJECTS, run, shrink


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 1 if a seed broke an invariant."""
    parser = argparse.ArgumentParser(prog="python -m crestline.testing.simulation", description=__doc__)
    parser.add_argument("subject", help=f"{', '.join(sorted(SUBJECTS))}, or another as module:Class")
    parser.add_argument("--seeds", default="0:200", help="one seed, or first:last of a range (default: 0:200)")
    parser.add_argument("--only", help="names of the faults that may happen, separated by commas (default: all)")
    parser.add_argument("--trace", action="store_true", help="print the time line of every run")
    parser.add_argument("--no-shrink", action="store_true", help="print a failing run as it is")
    parser.add_argument("--coverage", action="store_true", help="print how often each fault met each kind of request")
    asked = parser.parse_args(arguments)
    first, _, last = asked.seeds.partition(":")
    began, failed, simulated = time.process_time(), 0, 0.0
    coverage: Counter[tuple[str, str]] = Counter()
    seeds = range(int(first), int(last or int(first) + 1))
    only = None if asked.only is None else [name.strip() for name in asked.only.split(",")]
    for seed in seeds:
        outcome = run(asked.subject, seed, only)
        simulated += outcome.seconds
        coverage += outcome.coverage
        if outcome.violation is not None:
            failed += 1
            outcome = outcome if asked.no_shrink else shrink(outcome)
        if outcome.violation is not None or asked.trace:
            print(outcome.time_line, end="\n\n", flush=True)
    took = time.process_time() - began
    print(
        f"{len(seeds)} seeds, {failed} failed; {len(seeds) / took:.0f} seeds/s, "
        f"{simulated / 3600:.1f} h of virtual time in {took:.0f} s"
    )
    if asked.coverage:
        for (kind, occasion), count in sorted(coverage.items()):
            print(f"{count:8} {kind:24} {occasion}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
