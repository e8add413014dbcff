"""How many can watch a job by server-sent events, how soon do they hear, and what does each cost?"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial

from report import Row
from site_under_test import Site

USER = "user01"


@dataclass
class Crowd:
    """What all watchers have heard."""

    ready: int = 0
    heard: list[float] = field(default_factory=list)
    all_ready: asyncio.Event = field(default_factory=asyncio.Event)
    all_heard: asyncio.Event = field(default_factory=asyncio.Event)


class Watcher(asyncio.Protocol):
    """One connection, with as little of a client as does."""

    def __init__(self, request: bytes, crowd: Crowd, size: int) -> None:
        self._request = request
        self._crowd = crowd
        self._size = size
        self._is_ready = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        transport.write(self._request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        if not self._is_ready and b"event: ready" in data:
            self._is_ready = True
            self._crowd.ready += 1
            if self._crowd.ready == self._size:
                self._crowd.all_ready.set()
        elif self._is_ready and b"CANCELLED" in data:
            self._crowd.heard.append(time.time())
            if len(self._crowd.heard) == self._size:
                self._crowd.all_heard.set()

    def close(self) -> None:
        self._transport.close()


def measure(site: Site, *, quick: bool) -> list[Row]:
    size = 300 if quick else 5000
    delays, memory, commands = asyncio.run(watch(site, size, rounds=2 if quick else 5))
    worst = max(delays)
    return [
        Row(f"{size} watchers: a change reaches the last", worst, "s", "within a second", worst <= 1),
        Row(f"{size} watchers: memory for each", memory / 1024, "KiB", "under 30 KB", memory < 30_000),
        Row(f"{size} watchers: scheduler commands", commands, "1/s", "at most 2", commands <= 2),
    ]


async def watch(site: Site, size: int, rounds: int) -> tuple[list[float], float, float]:
    """Seconds from the change to the last watcher, bytes for each watcher, scheduler commands a second."""
    token = site.token(USER)
    delays = []
    before = site.process.memory_info().rss
    memory = commands = 0.0
    for _ in range(rounds):
        # Held, as Slurm takes up to a second of its own to end a job that runs.
        job_id = await asyncio.to_thread(site.submit_by_hand, USER, "#!/bin/sh\n#SBATCH --hold\nsleep 1\n")
        crowd = Crowd()
        request = (
            f"GET /compute/counted/jobs/events?ids={job_id} HTTP/1.1\r\nHost: 127.0.0.1:{site.port}\r\n"
            f"Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n\r\n"
        ).encode()
        loop = asyncio.get_running_loop()
        watchers = []
        for begin in range(0, size, 100):
            some = range(begin, min(begin + 100, size))
            made = [
                loop.create_connection(partial(Watcher, request, crowd, size), "127.0.0.1", site.port) for _ in some
            ]
            watchers += [protocol for _, protocol in await asyncio.gather(*made)]
        await asyncio.wait_for(crowd.all_ready.wait(), 600)
        memory = (site.process.memory_info().rss - before) / size
        await asyncio.to_thread(site.reset_counts)
        counted = time.time()
        await asyncio.sleep(5)
        commands = max(commands, sum((await asyncio.to_thread(site.counts)).values()) / (time.time() - counted))
        # By hand, past the gateway, which therefore has to find it out.
        await asyncio.to_thread(site.by_hand, USER, f"scancel {job_id}")
        changed = time.time()
        await asyncio.wait_for(crowd.all_heard.wait(), 600)
        delays.append(max(crowd.heard) - changed)
        for watcher in watchers:
            watcher.close()
        await asyncio.sleep(1)
    return delays, memory, commands
