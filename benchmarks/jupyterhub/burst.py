"""A lecture begins: how many servers start in one hub at once, and how long its event loop stands still meanwhile.

Stalls are told by the clock, and by the processor, which is what the hub's own work takes on any machine.
Python's garbage collector is told by itself: a full collection goes through all that the hub has in memory.

Real spawners, the gateway in a process of its own, programs of the benchmark in Slurm's place. A session is said to
listen as soon as its job is known, so the time to a ready server is what hub and gateway take.
"""

from __future__ import annotations

import asyncio
import gc
import getpass
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import tomlkit
from report import Row

sys.path.append(str(Path(__file__).parents[1] / "queues"))

from slurm_stand_in import SlurmStandIn

from harness.gateway import GatewayProcess
from harness.hub_settings import variables
from harness.ports import free_port

ARRIVAL = 0.005
"""seconds from one user's click to the next"""


@contextmanager
def _gateway(folder: Path) -> Iterator[GatewayProcess]:
    slurm = SlurmStandIn(folder / "bin")
    slurm.fill(0, [getpass.getuser()])
    files = folder / "files"
    files.mkdir()
    system = {
        "scheduler": {"type": "slurm", "directory": str(slurm.directory), "observer": getpass.getuser()},
        "file_systems": [{"path": str(files), "default_work_dir": True}],
    }
    config = folder / "site.toml"
    config.write_text(tomlkit.dumps({"systems": {"slurm": system}}))
    gateway = GatewayProcess(folder / "gateway", free_port(), "--config", str(config))
    gateway.system = "slurm"
    gateway.start()
    (files / getpass.getuser()).mkdir(exist_ok=True)
    try:
        yield gateway
    finally:
        gateway.stop()


async def _start(sessions: int) -> dict[str, float]:
    """Start so many servers at once."""
    from jupyterhub.auth import DummyAuthenticator
    from jupyterhub.user import User
    from traitlets.config import Config

    from crestline_jupyterhub import FirecRESTSpawner
    from jupyterhub import orm

    class Thin(FirecRESTSpawner):
        server = SimpleNamespace(base_url="/user/", ip="", port=0)

        def get_env(self) -> dict[str, str]:
            return {"JUPYTERHUB_API_URL": "http://127.0.0.1:1/hub/api"}

        async def _is_node(self, host: str) -> bool:
            return True

    database = orm.new_session_factory("sqlite:///:memory:")()
    spawners: list[Any] = []
    for number in range(sessions + 1):
        user = orm.User(name=f"user{number}")
        database.add(user)
        database.commit()
        settings = {"authenticator": DummyAuthenticator(), "spawner_class": Thin, "config": Config(), "base_url": "/"}
        spawners.append(User(user, settings).spawners[""])

    async def ready(spawner: Any, arrives: float = 0.0) -> float:
        await asyncio.sleep(arrives)
        began = time.perf_counter()
        spawner._spawn_pending = True
        starting = asyncio.ensure_future(spawner.start())
        while not spawner.job_id and not starting.done():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        if not starting.done():
            await spawner.set_address(("127.0.0.1", 1), 1, None)
        await starting
        return time.perf_counter() - began

    stalls: list[float] = []
    turns: list[float] = []
    collections: list[float] = []
    collected = 0.0

    def note_collection(phase: str, _: dict[str, int]) -> None:
        nonlocal collected
        if phase == "start":
            collections.append(-time.thread_time())
        else:
            collections[-1] += time.thread_time()
            collected += collections[-1]

    async def watch() -> None:
        while True:
            began, used = time.perf_counter(), time.thread_time() - collected
            await asyncio.sleep(0.005)
            stalls.append(time.perf_counter() - began - 0.005)
            turns.append(time.thread_time() - collected - used)

    alone = await ready(spawners.pop())
    gc.callbacks.append(note_collection)
    watching = asyncio.create_task(watch())
    me = psutil.Process()
    used, memory, began = sum(me.cpu_times()[:2]), me.memory_info().rss, time.perf_counter()
    found = await asyncio.gather(
        *(ready(each, number * ARRIVAL) for number, each in enumerate(spawners)), return_exceptions=True
    )
    took, used = time.perf_counter() - began, sum(me.cpu_times()[:2]) - used
    watching.cancel()
    gc.callbacks.remove(note_collection)
    failures = [each for each in found if isinstance(each, BaseException)]
    for each in failures[:3]:
        print(f"failed: {each!r} {getattr(each, 'log_message', '')}", file=sys.stderr)
    jobs = len({each.job_id for each in spawners})
    memory = me.memory_info().rss - memory
    for each in spawners:
        each.folder = ""  # the gateway goes, and its files with it
        each.clear_state()
    return {
        "alone": alone,
        "took": took,
        "lost": float(len(failures)),
        "jobs": float(jobs),
        "stall": max(stalls),
        "turn": max(turns),
        "collection": max(collections, default=0.0),
        "cpu": used,
        "memory": memory / sessions / 1024,
    }


def burst(folder: Path, sessions: int) -> list[Row]:
    """Start so many servers at once, and one before them."""
    with _gateway(folder) as gateway:
        os.environ.update(variables(gateway))
        found = asyncio.run(_start(sessions))
    what = f"{sessions} servers start at once"
    raw = sessions * found["alone"]
    return [
        Row(f"{what}: all ready", found["took"], "s", "", None, raw, "one after the other"),
        Row(f"{what}: lost", found["lost"], "servers", "none", found["lost"] == 0 and found["jobs"] == sessions),
        Row(f"{what}: longest stall", 1000 * found["stall"], "ms", "", None),
        Row(
            f"{what}: longest stall, of the processor",
            1000 * found["turn"],
            "ms",
            "below 100 ms",
            found["turn"] < 0.1,
        ),
        Row(f"{what}: longest garbage collection of Python", 1000 * found["collection"], "ms", "", None),
        Row(f"{what}: processor time of the hub", found["cpu"], "s", "", None),
        Row(f"{what}: memory for each", found["memory"], "KiB", "", None),
    ]
