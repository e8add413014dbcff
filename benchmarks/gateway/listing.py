"""Does a directory of 30,000 files stall the others?"""

from __future__ import annotations

import threading
import time

import httpx
from report import Row
from site_under_test import Site, percentile, timed

USER = "user03"


def measure(site: Site, *, quick: bool) -> list[Row]:
    count = 3000 if quick else 30_000
    directory = f"/home/{USER}/many"
    site.by_hand(USER, f"mkdir -p {directory} && cd {directory} && seq -f 'file-%06.0f' {count} | xargs touch")
    lively: list[float] = []
    done = threading.Event()

    def live() -> None:
        with httpx.Client(timeout=60) as http:
            while not done.is_set():
                lively.extend(timed(lambda: http.get(f"{site.url}/status/liveness").raise_for_status(), 1))
                time.sleep(0.01)

    with httpx.Client(headers=site.headers(USER), timeout=300) as http:

        def ls() -> None:
            answer = http.get(f"{site.url}/filesystem/slurm/ops/ls", params={"path": directory}).raise_for_status()
            if answer.content.count(b"file-") < count:
                raise RuntimeError("files are missing from the list")

        ls()
        thread = threading.Thread(target=live)
        thread.start()
        ours = timed(ls, 2 if quick else 10)
        done.set()
        thread.join()
    raw = timed(lambda: site.by_hand(USER, f"ls -l {directory}"), 2 if quick else 10)
    p99 = percentile(lively, 0.99) * 1000
    return [
        Row(f"ls of {count} files: liveness p99 meanwhile", p99, "ms", "under 50 ms", p99 < 50),
        Row(
            f"ls of {count} files",
            percentile(ours, 0.5),
            "s",
            "none",
            True,
            percentile(raw, 0.5),
            "ssh ls -l",
        ),
    ]
