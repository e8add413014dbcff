"""What the relay adds to the way from the hub's proxy to a session's server, beside an open port of the node."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil
from report import Row

from harness.gateway import GatewayProcess
from harness.hub import Hub
from harness.hub_settings import HUB, TINY, variables
from harness.ports import free_ports
from harness.relay import key_file

MIB, GIB = 1 << 20, 1 << 30
TURNS = 9
"""measurements of each figure"""
Direction = Literal["download", "upload"]


@dataclass
class Way:
    """One hub with one session, and what was measured of it."""

    hub: Hub
    carriers: dict[str, psutil.Process]
    """the processes that pass the bytes on between the hub's proxy and the server"""
    latency: list[float] = field(default_factory=list)
    """seconds of each small request"""
    rates: dict[Direction, list[float]] = field(default_factory=lambda: {"download": [], "upload": []})
    """MiB per second of each transfer"""
    busy: dict[Direction, list[float]] = field(default_factory=lambda: {"download": [], "upload": []})
    """processor seconds per GiB of each transfer, of all carriers together"""
    shares: dict[str, float] = field(default_factory=dict)
    """processor seconds of each carrier"""

    def request(self, count: int) -> None:
        """Small requests, one after the other."""
        with self.hub.http() as http:
            for _ in range(count):
                began = time.perf_counter()
                http.get("/user/user/api").raise_for_status()
                self.latency.append(time.perf_counter() - began)

    def transfer(self, direction: Direction, size: int) -> None:
        """One large body of `size` MiB."""
        body = bytes(size * MIB)
        with self.hub.http() as http:
            before, began = self._spent(), time.perf_counter()
            if direction == "download":
                moved = len(http.get(f"/user/user/bytes/{size}").content)
            else:
                moved = http.post("/user/user/bytes", content=body).json()["received"]
            took = time.perf_counter() - began
        if moved != size * MIB:
            raise RuntimeError(f"{moved} bytes of {size} MiB arrived")
        spent = {name: seconds - before[name] for name, seconds in self._spent().items()}
        self.rates[direction].append(size / took)
        self.busy[direction].append(sum(spent.values()) * GIB / moved)
        for name, seconds in spent.items():
            self.shares[f"{direction}, {name}"] = self.shares.get(f"{direction}, {name}", 0.0) + seconds

    def _spent(self) -> dict[str, float]:
        times = {name: process.cpu_times() for name, process in self.carriers.items()}
        return {name: spent.user + spent.system for name, spent in times.items()}


@contextmanager
def both(folder: Path) -> Iterator[tuple[Way, Way]]:
    """A session over a port, and one over the relay; each process on its own, as at a site."""
    for name in ("direct", "relay"):
        (folder / name).mkdir()
    ingress, port = free_ports(2)
    file = key_file(folder)
    config = folder / "gateway.toml"
    config.write_text(f'[relay.hubs.test]\nkey_file = "{file}"\ningress = "127.0.0.1:{ingress}"\n')
    gateway = GatewayProcess(folder / "gateway", port, "--config", str(config))
    gateway.start()
    more = f"""
c.FirecRESTSpawner.connect_mode = "relay"
c.FirecRESTSpawner.relay_key_file = "{file}"
c.FirecRESTSpawner.relay_ingress = "http://127.0.0.1:{ingress}"
c.FirecRESTSpawner.relay_url = "{gateway.url}/relay"
"""
    try:
        assert gateway.process is not None
        relay = {"relay": psutil.Process(gateway.process.pid)}
        with (
            Hub(folder / "direct", HUB + TINY, variables(gateway)) as direct,
            Hub(folder / "relay", HUB + TINY + more, variables(gateway)) as relayed,
        ):
            yield Way(direct, _session(direct)), Way(relayed, relay | _session(relayed))
            for hub in (direct, relayed):
                hub.stop_server("user")
    finally:
        gateway.stop()


def _session(hub: Hub) -> dict[str, psutil.Process]:
    """Start the session; its own program's process."""
    known = set(psutil.pids())
    hub.spawn("user")
    hub.ready("user")
    found = [p for p in psutil.process_iter(["cmdline"]) if p.pid not in known and _is_session(p.info["cmdline"] or [])]
    (process,) = (each for each in found if each.ppid() not in {other.pid for other in found})
    return {"session": process}


def _is_session(command: list[str]) -> bool:
    return len(command) > 1 and command[1].endswith(".pyz")


def way(folder: Path, size: int, count: int) -> list[Row]:
    """Latency of `count` small requests, throughput of bodies of `size` MiB."""
    with both(folder) as (direct, relayed):
        for turn in range(TURNS + 1):
            for each in (direct, relayed):  # in turns, so that both meet the same machine
                each.request(count // TURNS)
                each.transfer("download", size)
                each.transfer("upload", size)
                if not turn:  # it warms up
                    each.latency, each.shares = [], {}
                    for figures in (each.rates, each.busy):
                        figures["download"], figures["upload"] = [], []
    added = (statistics.median(relayed.latency) - statistics.median(direct.latency)) * 1000
    total = statistics.median(direct.latency) * 1000
    rows = [Row("relay, added latency, median", added, "ms", "at most 5 ms", added <= 5, total, "direct, in all")]
    for direction in ("download", "upload"):
        mine, raw = statistics.median(relayed.rates[direction]), statistics.median(direct.rates[direction])
        rows.append(Row(f"relay, {direction}", mine, "MiB/s", "at least half", mine >= raw / 2, raw, "direct"))
        busy, least = statistics.median(relayed.busy[direction]), statistics.median(direct.busy[direction])
        what = f"processor time of relay and session, {direction}"
        rows.append(Row(what, busy, "s/GiB", "-", None, least, "session alone, direct"))
    return rows
