"""What a CI job costs beyond its queue and run time: through the executor, and by plain `ssh host 'sbatch -W'`.

python benchmarks/ci/overhead.py [--jobs 10] [--latency 0.05] [--quick] [--json FILE]

Both go to the same Slurm (a container). Requests are counted, and each is answered later by the latency. Queue time is
what Slurm says, in whole seconds: a mean over many jobs is exact, a single one is not. A second table has the stages of
the runner: how long each takes and how many requests it sends.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from report import Row, show, write

from crestline.client import connect_blocking
from crestline.testing.gitlab_runner import Build, CiJob, GitLab
from gitlab_runner import site as sites
from harness.cluster import started
from harness.slurm_gateway import running

Stages = dict[str, tuple[float, float]]
"""seconds and requests by stage"""

RUN = 2.0
LINES = 'for i in 1 2; do echo "at $(date +%s.%N)"; sleep 1; done'


class Delay:
    """A proxy before the gateway: counts requests and answers each a little later."""

    def __init__(self, url: str, latency: float) -> None:
        self.requests = 0
        self._target = urlsplit(url)
        self._latency = latency
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._serve, args=(ready,), daemon=True).start()
        ready.wait()

    def _serve(self, ready: threading.Event) -> None:
        async def listen() -> None:
            server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            ready.set()
            await server.serve_forever()

        self._loop.run_until_complete(listen())

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._target.hostname, self._target.port)

        async def there() -> None:
            while content := await reader.read(65536):
                if heads := content.count(b" HTTP/1.1\r\n"):
                    self.requests += heads
                    await asyncio.sleep(self._latency)
                far_writer.write(content)
            far_writer.close()

        async def back() -> None:
            while content := await far_reader.read(65536):
                writer.write(content)
            writer.close()

        await asyncio.gather(there(), back(), return_exceptions=True)


class TimedBuild(Build):
    """Notes when each line came, and how many requests there had been before each call."""

    def __init__(self, *arguments: object, proxy: Delay) -> None:
        self.delays: list[float] = []
        self.marks: list[int] = []
        super().__init__(
            *arguments,  # type: ignore[arg-type]
            before_call=lambda _: self.marks.append(proxy.requests),
            on_output=self._note,
        )

    def _note(self, content: bytes) -> None:
        now = time.time()
        self.delays += [now - float(line[3:]) for line in content.split(b"\n") if line.startswith(b"at ")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10)
    parser.add_argument("--latency", type=float, default=0.05, help="seconds added to each request")
    parser.add_argument("--quick", action="store_true", help="two jobs: to see that it works")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.quick:
        asked.jobs = 2
    with tempfile.TemporaryDirectory(prefix="ci-benchmark-") as folder:
        place = Path(folder)
        with started(place) as slurm, running(slurm, place / "home") as gateway:
            proxy = Delay(gateway.url, asked.latency)
            gateway.url = proxy.url
            rows, stages = measure(place, slurm, gateway, proxy, asked)
    print(show(rows))
    print(f"\n{'stage':34}{'s':>10}{'requests':>10}")
    for name, (seconds, requests) in stages.items():
        print(f"{name:34}{seconds:10.2f}{requests:10.1f}")
    if asked.json:
        write(rows, asked.json)


def measure(place: Path, slurm, gateway, proxy: Delay, asked: argparse.Namespace) -> tuple[list[Row], Stages]:
    site = sites.slurm_site(place, gateway)
    gitlab = GitLab(place)
    sha = gitlab.commit({"README.md": "x\n"})
    beyond, requests, delays = [], [], []
    stages: dict[str, list[tuple[float, int]]] = {}
    for _ in range(asked.jobs):
        before, began = proxy.requests, time.monotonic()
        job = CiJob(script=[LINES])
        with TimedBuild(site.custom, gitlab, job, sha, proxy=proxy) as build:
            build.wait()
        wall = time.monotonic() - began
        if build.state != "success":
            raise SystemExit(build.text)
        requests.append(proxy.requests - before)
        beyond.append(wall - RUN - _queued(slurm, f"ci-{job.id}-"))
        delays += build.delays
        for call, first, after in zip(build.calls, build.marks, [*build.marks[1:], proxy.requests], strict=True):
            stages.setdefault(call.stage, []).append((call.seconds, after - first))
    freed = []
    for _ in range(max(1, asked.jobs // 5)):
        job = CiJob(script=["echo it runs", "sleep 600"])
        with Build(site.custom, gitlab, job, sha) as build:
            build.wait_for("it runs\n")
            began = time.monotonic()
            build.cancel()
            while f"ci-{job.id}-" in slurm.check("root", ["squeue", "-h", "-o", "%j %t"]):
                time.sleep(0.1)
            freed.append(time.monotonic() - began)
            build.wait()
    raw = _raw(slurm, asked.jobs)
    gitlab.close()
    with connect_blocking(site.client_site) as system:
        left = [each for each in system.jobs() if not each.is_finished]
    if left:
        raise SystemExit(f"left behind: {left}")
    overhead, delay, free = statistics.mean(beyond), statistics.median(delays), max(freed)
    rows = [
        Row(
            f"a CI job beyond queue and run, {asked.latency * 1000:.0f} ms more for each request",
            overhead,
            "s",
            "under 3 s",
            overhead < 3,
            statistics.mean(raw),
            "ssh host 'sbatch -W'",
        ),
        Row("requests for a CI job", statistics.mean(requests), "", "none", None),
        Row("delay of the log, median", delay, "s", "at most 2 s", delay <= 2),
        Row("delay of the log, longest", max(delays), "s", "at most 2 s", max(delays) <= 2),
        Row("from cancel to free nodes, longest", free, "s", "within 20 s", free <= 20),
    ]
    by_stage = {
        name: (statistics.median(seconds for seconds, _ in calls), statistics.mean(count for _, count in calls))
        for name, calls in stages.items()
    }
    return rows, by_stage


def _queued(slurm, name: str) -> int:
    """Seconds between submission and start of the newest job with this name, as Slurm's accounting has them."""
    for _ in range(100):
        lines = slurm.check("root", ["sacct", "-a", "-X", "-n", "-P", "-o", "jobname,submit,start"]).splitlines()
        found = [line.split("|") for line in lines if line.startswith(name)]
        if found and found[-1][2][:1].isdigit():
            submit, start = (datetime.fromisoformat(each) for each in found[-1][1:])
            return int((start - submit).total_seconds())
        time.sleep(0.1)
    raise SystemExit(f"{name} is not in the accounting")


def _raw(slurm, jobs: int) -> list[float]:
    """The same script by `ssh host 'sbatch -W ...'`, its output read afterwards."""
    known = Path(slurm.keys) / "known_hosts"
    known.write_text(slurm.known_hosts)
    ssh = ["ssh", "-p", str(slurm.port), "-i", str(slurm.key("alice")), "-o", f"UserKnownHostsFile={known}"]
    found = []
    for number in range(jobs):
        began = time.monotonic()
        script = f"sbatch -W -J raw-{number}- -o out.log <<'X'\n#!/bin/bash\n{LINES}\nX\ncat out.log"
        subprocess.run([*ssh, f"alice@{slurm.host}", script], check=True, capture_output=True)
        wall = time.monotonic() - began
        found.append(wall - RUN - _queued(slurm, f"raw-{number}-"))
    return found


if __name__ == "__main__":
    main()
