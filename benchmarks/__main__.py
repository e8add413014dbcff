"""Run every benchmark, one after the other, and write what the documentation's page of measurements is made from.

    python benchmarks [--quick] [--into DIRECTORY] [PART ...]

It takes about an hour on a quiet machine (`--quick`: some minutes) and needs what the tests need. Nothing else
should run meanwhile.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MEASUREMENTS = HERE.parent / "docs" / "measurements"
PARTS = {
    "gateway": ("gateway/run.py",),
    "queues": ("queues/run.py",),
    "client": ("queues/waiting.py",),
    "far-away": ("far_away/run.py",),
    "airflow-waiting": ("airflow/waiting.py",),
    "airflow-ending": ("airflow/ending.py",),
    "airflow-styles": ("airflow/styles.py",),
    "jupyterhub": ("jupyterhub/run.py",),
    "reframe": ("reframe",),
    "ci": ("ci/overhead.py",),
    "slurm-commands": ("slurm_commands/overhead.py",),
    "engines": ("engines/run.py",),
    "apis": ("apis/run.py",),
}


def main() -> int:
    """Exit status 1 if a benchmark failed; one that misses a target has not failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that all work")
    parser.add_argument("--into", type=Path, default=MEASUREMENTS, metavar="DIRECTORY")
    asked = parser.parse_args()
    failed = []
    for part in asked.parts or PARTS:
        print(f"\n== {part}", flush=True)
        script, *arguments = PARTS[part]
        result = asked.into / f"{part}.json"
        quick = ["--quick"] if asked.quick else []
        command = [sys.executable, str(HERE / script), *arguments, *quick, "--json", str(result)]
        if subprocess.run(command, check=False).returncode != 0:
            failed.append(part)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
