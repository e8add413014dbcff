"""Requests and seconds of the same work on each API: only the site differs.

    python benchmarks/apis/run.py [--times 3] [--quick] [--json FILE]

The sites are the stand-ins of a plain FirecREST and of an IRI facility, and a Crestline gateway in front of real Slurm
(a container), by its IRI API and by its own. On each of them run the DAG of the talk (upload, submit, download), a
session of a hub over the relay, 20 small tests of ReFrame and a job of GitLab CI. Requests are counted on the wire,
those for tokens of other hosts excluded. The figure is the median of the runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from msgspec.structs import asdict, replace

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "ci"), str(HERE.parents[1] / "tests")]

from harness import airflow_dags  # noqa: E402

_HOME = tempfile.TemporaryDirectory(prefix="airflow-")
airflow_dags.configure(Path(_HOME.name))

from overhead import Delay  # noqa: E402
from report import Row, show, write  # noqa: E402

from crestline.client import Site, register_site  # noqa: E402
from crestline.testing import firecrest, iri  # noqa: E402
from crestline.testing.gitlab_runner import CiJob, GitLab  # noqa: E402
from gitlab_runner.site import driver_site  # noqa: E402
from harness.cluster import Cluster, started  # noqa: E402
from harness.hub import Hub  # noqa: E402
from harness.hub_settings import HUB  # noqa: E402
from harness.reframe_suite import Suite  # noqa: E402
from harness.relay import relay_process  # noqa: E402
from harness.sites import gateway_site, iri_site, plain_site  # noqa: E402
from harness.slurm_gateway import running as slurm_running  # noqa: E402

CHECKS = HERE.parent / "reframe" / "checks.py"
SERVER = f"""
c.FirecRESTSpawner.req_prologue = "export PATH={sys.prefix}/bin:$PATH"
c.Spawner.args = ["--allow-root"]  # the stand-ins run jobs as this user
"""
NAMES = {
    "firecrest": "plain FirecREST, stand-in",
    "facility": "IRI, stand-in",
    "gateway-iri": "IRI, Crestline gateway with Slurm",
    "gateway": "Crestline gateway with Slurm",
}


@contextmanager
def four_sites(folder: Path, machine: Cluster) -> Iterator[dict[str, Site]]:
    """The sites by the keys of `NAMES`."""
    place = folder / "facility"
    place.mkdir()
    with (
        firecrest.running() as plain,
        iri.running(place) as facility,
        slurm_running(machine, folder / "slurm") as gateway,
    ):
        client_id, secret = gateway.client_of("alice")
        alice = {"client_id": client_id, "client_secret": secret}
        options = {"workdir": str(place)}
        yield {
            "firecrest": plain_site(plain),
            "facility": Site(url=facility.url, api="iri", token=iri.TOKEN, system="Pearl", options=options),
            "gateway-iri": iri_site(gateway, **alice),
            "gateway": gateway_site(gateway, **alice),
        }


def counted(site: Site) -> tuple[Site, Delay]:
    """The site behind a counter of requests."""
    counter = Delay(site.url, 0.0)
    path = site.url.partition("://")[2].partition("/")[2]
    return replace(site, url=f"{counter.url}/{path}".rstrip("/")), counter


def dag(name: str, site: Site, folder: Path, machine: Cluster) -> float:
    """The talk's DAG."""
    began = time.monotonic()
    done = airflow_dags.run(airflow_dags.the_talk(str(site.system), folder))
    seconds = time.monotonic() - began
    assert (folder / "sum.txt").read_text() == "16\n", done.states
    return seconds


def session(name: str, site: Site, folder: Path, machine: Cluster) -> float:
    """A session of a hub, timed until it is ready; its end counts as requests."""
    settings = HUB + SERVER + f'c.FirecRESTSpawner.system = "{site.system}@{name}"\n'
    with (
        relay_process(folder, machine.machine) as relay,
        Hub(folder, settings + relay, {}, host=machine.machine) as hub,
    ):
        began = time.monotonic()
        hub.spawn("alice")
        hub.ready("alice")
        seconds = time.monotonic() - began
        hub.stop_server("alice")
    return seconds


def suite(name: str, site: Site, folder: Path, machine: Cluster) -> float:
    """20 tests of ReFrame."""
    unused = ("url", "token_url", "client_id", "client_secret_file", "system")
    partition = {"access": ["--partition=debug"]}
    tests = Suite(folder, site, partition, firecrest=dict.fromkeys(unused) | {"site": name})
    tests.variables["RFM_TEST_COUNT"] = "20"
    done = tests.run("-c", CHECKS, "-r")
    assert done.exit_status == 0, done.output
    return done.seconds


def ci_job(name: str, site: Site, folder: Path, machine: Cluster) -> float:
    """A job of GitLab CI."""
    gitlab = GitLab(folder / "gitlab")
    try:
        driver = driver_site(folder, site)
        began = time.monotonic()
        build = driver.run(gitlab, CiJob(script=["cat README.md"]))
        assert build.state == "success", build.text
        return time.monotonic() - began
    finally:
        gitlab.close()


WORK: dict[str, Callable[[str, Site, Path, Cluster], float]] = {
    "Airflow DAG": dag,
    "JupyterHub session": session,
    "20 ReFrame tests": suite,
    "CI job": ci_job,
}


def measure(folder: Path, machine: Cluster, times: int) -> Iterator[Row]:
    """Two rows for each work and site."""
    with four_sites(folder, machine) as sites:
        for what, work in WORK.items():
            for name, plain in sites.items():
                seconds, requests = [], []
                for number in range(times):
                    site, counter = counted(plain)
                    own = folder / f"{what} {name} {number}".replace(" ", "-")
                    own.mkdir()
                    os.environ["CRESTLINE_SITES"] = str(own / "sites.toml")
                    register_site(name, **{key: value for key, value in asdict(site).items() if key != "name"})
                    seconds.append(work(name, site, own, machine))
                    requests.append(counter.requests)
                for unit, values in (("", requests), ("s", seconds)):
                    kind = "seconds" if unit else "requests"
                    row = Row(f"{what}, {NAMES[name]}: {kind}", statistics.median(values), unit, "", None)
                    print(row.what, row.ours, flush=True)
                    yield row


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="runs of which the median counts")
    parser.add_argument("--quick", action="store_true", help="one run")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    airflow_dags.make_database()
    import crestline_airflow.operators  # noqa: F401 - its import counts for no site

    with ExitStack() as stack:
        stack.callback(_HOME.cleanup)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apis-bench-", dir="/var/tmp")))
        folder.chmod(0o755)
        (folder / "keys").mkdir()
        machine = stack.enter_context(started(folder / "keys"))
        machine.share_python()
        rows = [*measure(folder, machine, 1 if options.quick else options.times)]
    print(show(rows))
    if options.json:
        write(rows, options.json)


if __name__ == "__main__":
    main()
