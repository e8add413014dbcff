"""How fast sessions start, what it costs to watch them, and what the relay adds; beside what each replaces.

    python benchmarks/jupyterhub/run.py [--quick] [--json FILE]

Needs what the tests need: the hub's proxy (`npm ci` in tests/hub_proxy).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "tests")]

from burst import burst  # noqa: E402
from report import Row, show, write  # noqa: E402
from way import way  # noqa: E402

from harness.gateway import in_thread  # noqa: E402
from harness.hub import Hub  # noqa: E402
from harness.hub_settings import HERE, HUB, away_from_home, variables  # noqa: E402

PROLOGUE = f'c.FirecRESTSpawner.req_prologue = "export PATH={Path(sys.executable).parent}:$PATH"\n'
LOCAL = """
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{folder}/home/{{username}}"
"""


def spawn_times(hub: Hub, count: int) -> list[float]:
    """Seconds from the request to the ready server, one after the other."""
    times = []
    for number in range(count):
        user = f"user{number}"
        began = time.perf_counter()
        hub.spawn(user)
        hub.ready(user)
        times.append(time.perf_counter() - began)
        hub.stop_server(user)
    return times


def start(folder: Path, count: int) -> Row:
    """Real single-user servers: ours on the local scheduler, beside the hub's own processes."""
    for name in ("ours", "local"):
        (folder / name).mkdir()
    with (
        in_thread(folder / "gateway") as gateway,
        Hub(folder / "ours", HUB + HERE + PROLOGUE + away_from_home(folder / "ours"), variables(gateway)) as ours,
        Hub(folder / "local", LOCAL.format(folder=folder / "local"), {}) as local,
    ):
        found: dict[str, list[float]] = {"ours": [], "local": []}
        for _ in range(count):  # in turns, so that both meet the same machine
            found["ours"] += spawn_times(ours, 1)
            found["local"] += spawn_times(local, 1)
    mine, raw = statistics.median(found["ours"]), statistics.median(found["local"])
    target = "at most 1.2 times"
    return Row("spawn to ready, median", mine, "s", target, mine <= 1.2 * raw, raw, "LocalProcessSpawner")


async def watching(servers: int, seconds: float) -> list[Row]:
    """Running servers of one hub: what reaches the gateway in a minute, and how long the event loop stands still."""
    from jupyterhub.auth import DummyAuthenticator
    from jupyterhub.user import User
    from traitlets.config import Config

    from crestline.client import Site, connect
    from crestline.model import JobSpec
    from crestline.testing.firecrest import running
    from crestline_jupyterhub import FirecRESTSpawner
    from jupyterhub import orm

    with running(start_delay=3600.0) as plain:
        os.environ.update(variables(plain))
        site = Site(url=plain.url, token=plain.token(), system=plain.system)
        specs = [JobSpec(script="#!/bin/sh\n", name=f"job-{n}", workdir=str(plain.home)) for n in range(servers)]
        async with connect(site) as system:
            jobs = await system.submit_many(specs, keys_are_new=True)
        session = orm.new_session_factory("sqlite:///:memory:")()
        spawners = []
        for number, job in enumerate(jobs):
            if isinstance(job, Exception):
                raise job
            orm_user = orm.User(name=f"user{number}")
            session.add(orm_user)
            session.commit()
            settings = {"authenticator": DummyAuthenticator(), "spawner_class": FirecRESTSpawner, "config": Config()}
            spawner = User(orm_user, settings | {"base_url": "/"}).spawners[""]
            spawner.load_state({"attempt": f"{number:012}", "job_id": job.job_id, "nonce": f"nonce{number}"})
            spawners.append(spawner)
        await asyncio.gather(*(spawner._looked.wait() for spawner in spawners))
        plain.requests.clear()
        plain.faults.delay(3.0, "/token", count=None)  # a slow identity provider, too
        longest, end = 0.0, time.perf_counter() + seconds
        while (now := time.perf_counter()) < end:
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - now - 0.005)
            for spawner in spawners:
                await spawner.poll()
        rate = len(plain.requests) * 60 / seconds
        for spawner in spawners:
            spawner.clear_state()
    contract = servers * 60 / 30  # batchspawner: one query command per server and poll_interval of 30 s
    return [
        Row(
            f"requests for {servers} running servers",
            rate,
            "1/min",
            "at most 13: one list every 5 s, with jitter",
            rate <= 13,
            contract,
            "batchspawner, by its contract",
        ),
        Row(
            "longest stall of the event loop while the identity provider takes 3 s",
            longest * 1000,
            "ms",
            "below 100 ms",
            longest < 0.1,
            3000,
            "a blocking token request",
        ),
    ]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: to see that all work")
    parser.add_argument("--json", type=Path, help="where the figures go, too")
    asked = parser.parse_args()
    quick = asked.quick
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="crestline-bench-") as scratch:
        places = [Path(scratch, name) for name in ("start", "way", "burst")]
        for place in places:
            place.mkdir()
        rows.append(start(places[0], 2 if quick else 10))
        rows += way(places[1], 16 if quick else 256, 50 if quick else 500)
    rows += burst(places[2], 30 if quick else 1000)
    rows += asyncio.run(watching(50 if quick else 200, 10 if quick else 60))
    print(show(rows))
    if asked.json:
        write(rows, asked.json)


if __name__ == "__main__":
    main()
