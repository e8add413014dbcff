"""Measure transfers between a client and a gateway far away from each other, beside scp, tar and rsync over such lines.

    python benchmarks/far_away/run.py [--quick] [--json FILE]

Needs Docker (the test cluster, whose sshd answers scp), OpenSSH's client and rsync. A program holds bytes back on this
machine, 50 ms each way and then 100, so that nothing leaves it.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "gateway"))

from delay_line import DelayLine, delayed
from report import Row, show, write
from site_under_test import Site, site

import crestline
from crestline.client import Site as ClientSite

RESULTS = Path(__file__).parent / "results"
USER = "user04"
DELAYS = (0.05, 0.1)
"""seconds, each way"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that it works")
    parser.add_argument("--json", type=Path, default=RESULTS / "far-away.json")
    arguments = parser.parse_args()
    rows: list[Row] = []
    with site() as running:
        for delay in DELAYS[: 1 if arguments.quick else None]:
            rows += measure(running, delay, quick=arguments.quick)
            write(rows, arguments.json)
    print(f"\n{show(rows)}\n\nwritten to {arguments.json}")


def measure(running: Site, delay: float, *, quick: bool) -> list[Row]:
    mebibytes, files = (32, 200) if quick else (1024, 10_000)
    folder = running.folder / f"far-{delay:g}"
    folder.mkdir()
    large, tree = folder / "large", folder / "tree"
    with large.open("wb") as file, open("/dev/urandom", "rb") as noise:
        for _ in range(mebibytes):
            file.write(noise.read(2**20))
    for number in range(files):
        (tree / str(number // 100)).mkdir(parents=True, exist_ok=True)
        (tree / str(number // 100) / str(number)).write_bytes(number.to_bytes(4, "big") * 1024)
    home = f"/home/{USER}/far-{delay:g}"
    running.by_hand(USER, f"mkdir -p {home}/ours {home}/theirs")
    rows = []
    with (
        delayed(running.port, delay) as to_gateway,
        delayed(running.cluster.port, delay, running.cluster.host) as to_sshd,
    ):
        client = ClientSite(
            name="far", url=f"http://127.0.0.1:{to_gateway.port}", system="slurm", token=running.token(USER)
        )
        ssh, scp = _without_multiplexing(running, to_sshd, "ssh"), _without_multiplexing(running, to_sshd, "scp")
        there = f"{USER}@127.0.0.1"

        def by_hand(*words: str, shell: bool = False) -> Callable[[], None]:
            command = [*words] if not shell else ["sh", "-c", words[0]]
            return lambda: subprocess.run(command, check=True, capture_output=True) and None

        async def move(source: str, target: str, *, upload: bool) -> None:
            async with crestline.connect(client) as system:
                await (system.upload if upload else system.download)(source, target)

        def ours(source: str, target: str, *, upload: bool) -> Callable[[], None]:
            return lambda: asyncio.run(move(source, target, upload=upload))

        packed = f"tar c -C {tree} . | {' '.join(ssh)} {there} tar x -C {home}/theirs"
        for what, mine, theirs, name, times in (
            (
                f"upload of {mebibytes} MiB",
                ours(str(large), f"{home}/ours/large", upload=True),
                by_hand(*scp, str(large), f"{there}:{home}/theirs/large"),
                "scp",
                3,
            ),
            (
                f"download of {mebibytes} MiB",
                ours(f"{home}/ours/large", str(folder / "back"), upload=False),
                by_hand(*scp, f"{there}:{home}/theirs/large", str(folder / "back-by-scp")),
                "scp",
                3,
            ),
            (
                f"upload of {files} files of 4 KiB",
                ours(str(tree), f"{home}/ours/tree", upload=True),
                by_hand(packed, shell=True),
                "tar | ssh tar",
                1 / 1.2,
            ),
        ):
            raw, took = _seconds(theirs), _seconds(mine)
            aim = f"at most {1 / times:.2f} times as long"
            rows.append(Row(f"{what}, {1000 * delay:g} ms each way", took, "s", aim, took * times <= raw, raw, name))
            print(show(rows[-1:]).splitlines()[-1], flush=True)
        for number in range(0, files, 100):
            (tree / str(number // 100) / str(number)).write_bytes(b"changed")
        rsync = by_hand("rsync", "-a", "-e", " ".join(ssh), f"{tree}/", f"{there}:{home}/theirs/")
        raw, by_rsync = _carried(to_sshd, rsync)
        took, carried = _carried(to_gateway, ours(str(tree), f"{home}/ours/tree", upload=True))
        what = f"upload of the same files with 1 % changed, {1000 * delay:g} ms each way"
        aim = "at most 1.2 times"
        rows += [
            Row(what, took, "s", aim, took <= 1.2 * raw, raw, "rsync"),
            Row(f"{what}: carried", carried, "KiB", aim, carried <= 1.2 * by_rsync, by_rsync, "rsync"),
        ]
    shutil.rmtree(folder)
    return rows


def _without_multiplexing(running: Site, line: DelayLine, tool: str) -> list[str]:
    """The words of `ssh` or `scp` over the line, with a connection of its own."""
    words = running.ssh(USER, tool=tool)
    first = ("ControlMaster=no", "ControlPath=none", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null")
    return [tool, *(word for option in first for word in ("-o", option)), *words[1:-1], str(line.port)]


def _carried(line: DelayLine, action: Callable[[], None]) -> tuple[float, float]:
    """Seconds that an action takes, and the KiB that its line carries both ways."""
    before = line.carried
    took = _seconds(action)
    return took, (line.carried - before) / 1024


def _seconds(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
