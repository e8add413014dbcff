"""How fast do large files travel, beside `scp`?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from report import Row
from site_under_test import Site, percentile, timed

import crestline
from crestline.client import Site as ClientSite

USER = "user04"


def measure(site: Site, *, quick: bool) -> list[Row]:
    size = (64 if quick else 1024) * 2**20
    local, back = site.folder / "large", site.folder / "back"
    with local.open("wb") as file, open("/dev/urandom", "rb") as noise:
        for _ in range(size // 2**20):
            file.write(noise.read(2**20))
    there = f"/home/{USER}/large"
    client = ClientSite(name="bench", url=site.url, system="slurm", token=site.token(USER))
    scp = site.ssh(USER, tool="scp")
    site.by_hand(USER, "true")

    async def move(upload: bool) -> None:
        async with crestline.connect(client) as system:
            if upload:
                await system.remove(there)
                await system.upload(local, there)
            else:
                back.unlink(missing_ok=True)
                await system.download(there, back)

    def copy(*paths: str) -> Callable[[], None]:
        import subprocess

        return lambda: subprocess.run([*scp, *paths], check=True, capture_output=True) and None

    rows = []
    remote = f"{USER}@{site.cluster.host}:{there}"
    for name, upload, by_hand in (
        ("upload", True, copy(str(local), remote)),
        ("download", False, copy(remote, str(back))),
    ):
        ours, raw = [], []
        for _ in range(1 if quick else 3):
            raw += timed(by_hand, 1)
            began = time.perf_counter()
            asyncio.run(move(upload))
            ours.append(time.perf_counter() - began)
        rate, raw_rate = (size / 2**20 / percentile(each, 0.5) for each in (ours, raw))
        rows.append(
            Row(
                f"{name} of {size // 2**20} MiB",
                rate,
                "MiB/s",
                "at least 0.7",
                rate >= 0.7 * raw_rate,
                raw_rate,
                "scp",
            )
        )
    if Path(back).read_bytes() != local.read_bytes():
        raise RuntimeError("what came back differs")
    return rows
