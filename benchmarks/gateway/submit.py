"""How long does a submission take, alone and as a batch, beside `sbatch` over a connection that is open already?"""

from __future__ import annotations

import time
import uuid

import httpx
from report import Row
from site_under_test import Site, percentile, timed

USER = "user02"
SCRIPT = "#!/bin/sh\n#SBATCH --hold\ntrue\n"


def measure(site: Site, *, quick: bool) -> list[Row]:
    url = f"{site.url}/compute/slurm/jobs"
    job = {"workingDirectory": f"/home/{USER}", "script": SCRIPT}
    size = 20 if quick else 100
    with httpx.Client(headers=site.headers(USER), timeout=300) as http:

        def post() -> None:
            headers = {"Idempotency-Key": uuid.uuid4().hex}
            http.post(url, json={"job": job}, headers=headers).raise_for_status()

        def batch() -> None:
            items = [{"job": job, "key": uuid.uuid4().hex} for _ in range(size)]
            answer = http.post(f"{url}/batch", json={"jobs": items}).raise_for_status()
            if not all(each.get("jobId") for each in answer.json()["results"]):
                raise RuntimeError(answer.text)

        post()
        site.submit_by_hand(USER, SCRIPT)
        ours, raw = [], []
        for _ in range(5 if quick else 50):
            ours += timed(post, 1)
            raw += timed(lambda: site.submit_by_hand(USER, SCRIPT), 1)
        singles, batches = [], []
        for _ in range(1 if quick else 3):
            began = time.perf_counter()
            timed(post, size)
            singles.append(time.perf_counter() - began)
            batches += timed(batch, 1)
    site.by_hand(USER, f"scancel --user={USER}")
    p50, raw50 = percentile(ours, 0.5) * 1000, percentile(raw, 0.5) * 1000
    one_by_one, together = percentile(singles, 0.5), percentile(batches, 0.5)
    return [
        Row("POST job, one client, p50", p50, "ms", "at most 1.5 times", p50 <= 1.5 * raw50, raw50, "ssh sbatch"),
        Row(
            f"{size} jobs in a batch",
            together,
            "s",
            "at most a third",
            together <= one_by_one / 3,
            one_by_one,
            f"{size} single POST",
        ),
    ]
