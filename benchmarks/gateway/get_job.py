"""How fast is a status read, alone and under load, beside `sacct -j` by hand?"""

from __future__ import annotations

import re
import subprocess

import httpx
from report import Row
from site_under_test import Site, percentile, timed


def measure(site: Site, *, quick: bool) -> list[Row]:
    user = "user01"
    job_id = site.submit_by_hand(user, "#!/bin/sh\nsleep 3600\n")
    url = f"{site.url}/compute/slurm/jobs/{job_id}"
    headers = site.headers(user)
    times = 10 if quick else 50
    with httpx.Client(headers=headers, timeout=60) as http:
        http.get(url).raise_for_status()
        # In turns, so that both meet the same machine.
        ours, raw = [], []
        for _ in range(times):
            raw += timed(lambda: site.by_hand(user, f"sacct -j {job_id} --parsable2"), 1)
            ours += timed(lambda: http.get(url).raise_for_status(), 20)
    seconds = 3 if quick else 15
    rate = requests_per_second(url, headers["Authorization"], connections=64, seconds=seconds)
    site.by_hand(user, f"scancel {job_id}")
    p50, raw50 = percentile(ours, 0.5) * 1000, percentile(raw, 0.5) * 1000
    return [
        Row("GET job, one client, p50", p50, "ms", "at most a tenth", p50 <= raw50 / 10, raw50, "ssh sacct -j"),
        Row("GET job, 64 connections", rate, "1/s", "at least 3,000", rate >= 3000),
    ]


def requests_per_second(url: str, authorization: str, *, connections: int, seconds: int) -> float:
    """With wrk, whose every request must be answered, and with success."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Authorization: {authorization}", url]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(out)
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    if found is None:
        raise RuntimeError(out)
    return float(found[1])
