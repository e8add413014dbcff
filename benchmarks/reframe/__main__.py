"""ReFrame's wall time, requests and bytes: ours beside its own `local` and `slurm` backends and a plain request loop.

    python benchmarks/reframe --tests 20 100 --json reframe.json

Real Slurm runs in the test cluster's container; without Docker its rows are left out.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "tests")]

import request_loop  # noqa: E402
from delay import distant  # noqa: E402
from packaging.requirements import Requirement  # noqa: E402
from report import Row, show, write  # noqa: E402

from crestline.client import Site  # noqa: E402
from crestline.testing.firecrest import running as plain_running  # noqa: E402
from harness.cluster import Cluster, started  # noqa: E402
from harness.gateway import RunningGateway, in_thread  # noqa: E402
from harness.reframe_suite import Suite  # noqa: E402
from harness.sites import gateway_site, plain_site  # noqa: E402
from harness.slurm_gateway import running as slurm_running  # noqa: E402

_PLAIN = "crestline, plain FirecREST"


class Table:
    """Rows as they come, and a file with all of them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, backend: str, tests: int, seconds: float, requests: int = 0, size: int = 0) -> None:
        row = {"backend": backend, "tests": tests, "seconds": seconds, "requests": requests, "bytes": size}
        self.rows.append(row)
        print(f"{backend:38} {tests:5} {seconds:8.1f} s {requests:6} requests {requests / tests:6.2f}/test {size:9} B")

    def seconds(self, backend: str, tests: int) -> float | None:
        found = [row["seconds"] for row in self.rows if (row["backend"], row["tests"]) == (backend, tests)]
        return found[0] if found else None


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tests", type=int, nargs="+", default=[20, 100])
    parser.add_argument("--delay", type=float, default=0.25, help="seconds added to each request in the distant rows")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--no-slurm", action="store_true")
    parser.add_argument("--quick", action="store_true", help="one small size")
    options = parser.parse_args()
    if options.quick:
        options.tests = [5]
    table = Table()
    with tempfile.TemporaryDirectory(prefix="reframe-bench-") as place, in_thread(Path(place) / "home") as gateway:
        site = gateway_site(gateway)
        for tests in options.tests:
            _reframe(table, "ReFrame's local", Path(place), site, tests, {"scheduler": "local"})
            _reframe(table, "crestline, local scheduler", Path(place), site, tests)
        _distant(table, gateway, Path(place), options.tests[0], options.delay)
        _plain(table, Path(place), options.tests, options.delay)
        if shutil.which("docker") and not options.no_slurm:
            keys = Path(tempfile.mkdtemp(dir=place))
            with started(keys) as machine, slurm_running(machine, Path(place) / "slurm") as slurm:
                client_id, secret = slurm.client_of("alice")
                slurm_site = gateway_site(slurm, client_id=client_id, client_secret=secret)
                _install(machine)
                for tests in options.tests:
                    _inside(table, machine, tests)
                    access = {"access": ["--partition=debug"]}
                    _reframe(table, "crestline, Slurm over SSH", Path(place), slurm_site, tests, access)
    rows = [*_ratios(table, options.tests, options.delay), *_requests(table)]
    print(show(rows))
    if options.json:
        write(rows, options.json)


def _reframe(
    table: Table, name: str, place: Path, site: Site, tests: int, partition: dict[str, Any] | None = None
) -> None:
    suite = Suite(Path(tempfile.mkdtemp(dir=place)), site, partition=partition or {})
    suite.variables["RFM_TEST_COUNT"] = str(tests)
    begin = time.monotonic()
    done = suite.run("-c", HERE / "checks.py", "-r", timeout=1800)
    seconds = time.monotonic() - begin
    if done.exit_status:
        raise SystemExit(done.output)
    traffic = done.traffic if "firecrest" in done.report["session_info"] else {}
    size = traffic.get("bytes_sent", 0) + traffic.get("bytes_received", 0)
    table.add(name, tests, seconds, traffic.get("requests", 0), size)


def _distant(table: Table, gateway: RunningGateway, place: Path, tests: int, delay: float) -> None:
    """Every request takes longer: ours, and a plain loop of requests."""
    with distant(gateway.url, delay) as url:
        site = gateway_site(gateway, url=url, token_url=f"{url}/oauth2/token")
        _reframe(table, f"crestline, +{delay * 1000:.0f} ms", place, site, tests)
        with gateway.http() as http:
            systems = http.get("/status/systems").json()["systems"]
            user = http.get(f"/status/{site.system}/userinfo").json()["user"]["name"]
        home = next(each["path"] for each in systems[0]["fileSystems"] if each.get("defaultWorkDir"))
        seconds, requests = request_loop.run(site, f"{home.rstrip('/')}/{user}", tests)
        table.add(f"plain request loop, +{delay * 1000:.0f} ms", tests, seconds, requests)


def _plain(table: Table, place: Path, sizes: list[int], delay: float) -> None:
    """A FirecREST without our additions: each job is a request there."""
    access = {"access": ["--partition=debug"]}
    with plain_running() as plain:
        for tests in sizes:
            _reframe(table, _PLAIN, place, plain_site(plain), tests, access)
        with distant(plain.url, delay) as url:
            _reframe(table, f"{_PLAIN}, +{delay * 1000:.0f} ms", place, plain_site(plain, url=url), sizes[0], access)


def _install(machine: Cluster) -> None:
    """ReFrame and what it imports, for the container's Python of the same version."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in _required("reframe-hpc", set()):
            for file in distribution(name).files or ():
                if ".." not in file.parts and file.suffix != ".pyc":
                    tar.add(file.locate(), f"reframe-site/{file}")
        tar.add(HERE / "checks.py", "reframe-site/checks.py")
    machine.put("/scratch", content.getvalue())


def _required(name: str, found: set[str]) -> set[str]:
    """The distribution and all that it requires here."""
    if name not in found:
        found.add(name)
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                _required(requirement.name, found)
    return found


def _inside(table: Table, machine: Cluster, tests: int) -> None:
    """ReFrame's own Slurm backend, where Slurm's commands are."""
    partition = {
        "name": "normal", "scheduler": "slurm", "launcher": "local", "environs": ["builtin"], "max_jobs": 200,
        "access": ["--partition=debug"],
    }  # fmt: skip
    configuration = {"systems": [{"name": "inside", "hostnames": [".*"], "partitions": [partition]}]}
    place = f"/home/alice/bench-{tests}-{time.time_ns()}"
    machine.check("alice", ["mkdir", place])
    machine.check("alice", ["python3", "-c", f"open('{place}/s.py', 'w').write({f'site_configuration = {configuration!r}'!r})"])  # fmt: skip # noqa: E501
    begin = time.monotonic()
    machine.check(
        "alice",
        ["python3", "-c", "from reframe.frontend.cli import main; main()", "-C", f"{place}/s.py", "--prefix", place,
         "-c", "/scratch/reframe-site/checks.py", "-r"],
        cwd=place,
        env={
            "PYTHONPATH": "/scratch/reframe-site",
            "RFM_TEST_COUNT": str(tests),
            "HOME": "/home/alice",
            "USER": "alice",
        },
    )  # fmt: skip
    table.add("ReFrame's slurm, on the cluster", tests, time.monotonic() - begin)


def _ratios(table: Table, sizes: list[int], delay: float) -> list[Row]:
    """Wall time beside the other's; the targets are for 100 tests, and for 20 where each request takes longer."""
    late = f"+{delay * 1000:.0f} ms"
    pairs: list[tuple[str, str, str, Callable[[float, float], bool] | None]] = [
        ("crestline, local scheduler", "ReFrame's local", "at most 1.5 times", lambda ours, raw: ours <= 1.5 * raw),
        (
            "crestline, Slurm over SSH",
            "ReFrame's slurm, on the cluster",
            "at most 1.1 times",
            lambda ours, raw: ours <= 1.1 * raw,
        ),
        ("crestline, Slurm over SSH", "ReFrame's local", "none", None),
        (f"crestline, {late}", f"plain request loop, {late}", "at most 12 s", lambda ours, _: ours <= 12),
        (f"{_PLAIN}, {late}", f"plain request loop, {late}", "at most 12 s", lambda ours, _: ours <= 12),
    ]
    rows = []
    for name, other, target, holds in pairs:
        for tests in sizes:
            ours, raw = table.seconds(name, tests), table.seconds(other, tests)
            if ours is not None and raw is not None:
                met = holds(ours, raw) if holds else None
                rows.append(Row(f"{name}: {tests} tests", ours, "s", target, met, raw, other))
    return rows


def _requests(table: Table) -> list[Row]:
    return [
        Row(
            f"{row['backend']}: {row['tests']} tests, requests for each",
            row["requests"] / row["tests"],
            "",
            "at most 1.2 at 100 tests, 0.3 at 1,000",
            row["requests"] <= (0.3 if row["tests"] >= 1000 else 1.2) * row["tests"] if row["tests"] >= 100 else None,
        )
        for row in table.rows
        if row["requests"]
    ]


if __name__ == "__main__":
    main()
