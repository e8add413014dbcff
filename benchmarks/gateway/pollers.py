"""What do many clients that poll cost the scheduler, and what do they get? FirecREST's is one command per poll."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import aiohttp
from report import Row
from site_under_test import USERS, Site, percentile


@dataclass
class Outcome:
    """Of one run."""

    asked: int
    answered: int
    p99: float
    liveness_p99: float
    commands_per_second: float


def measure(site: Site, *, quick: bool) -> list[Row]:
    seconds = 8 if quick else 60
    users = USERS[:5] if quick else USERS
    jobs = {user: site.submit_by_hand(user, "#!/bin/sh\nsleep 3600\n") for user in users}
    clients = 50 if quick else 500
    observed = asyncio.run(poll(site, "counted", jobs, clients, seconds))
    alone = asyncio.run(poll(site, "unobserved", jobs, clients, seconds))
    sizes = (10, 50) if quick else (10, 50, 100, 500, 1000, 5000)
    growth = {size: asyncio.run(poll(site, "counted", jobs, size, 8 if quick else 20)) for size in sizes}
    for user, job_id in jobs.items():
        site.by_hand(user, f"scancel {job_id}")
    who = f"{clients} pollers, {len(users)} users"
    share = 100 * observed.answered / observed.asked
    rate = observed.commands_per_second
    most = max(each.commands_per_second for each in growth.values())
    return [
        Row(f"{who}: answered", share, "%", "every poll", observed.answered == observed.asked),
        Row(f"{who}: p99", observed.p99 * 1000, "ms", "under 250 ms", observed.p99 < 0.25),
        Row(
            f"{who}: scheduler commands",
            rate,
            "1/s",
            "at most 2 in total",
            rate <= 2,
            float(clients),
            "one for each poll",
        ),
        Row(f"{who}: liveness p99", observed.liveness_p99 * 1000, "ms", "under 50 ms", observed.liveness_p99 < 0.05),
        Row(
            f"{who}, no observer: commands per identity",
            alone.commands_per_second / len(users),
            "1/s",
            "at most 2",
            alone.commands_per_second / len(users) <= 2,
        ),
        Row(
            f"{sizes[0]} to {sizes[-1]} pollers: most scheduler commands",
            most,
            "1/s",
            "no growth",
            most <= 2,
        ),
    ]


async def poll(site: Site, system: str, jobs: dict[str, str], clients: int, seconds: float) -> Outcome:
    """`clients` look at one job each, once a second."""
    headers = {user: site.headers(user) for user in jobs}
    users = list(jobs)
    durations: list[float] = []
    lively: list[float] = []
    failed = 0
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def get(path: str, user: str | None, into: list[float]) -> bool:
            began = time.perf_counter()
            try:
                async with session.get(f"{site.url}{path}", headers=headers.get(user or "")) as answer:
                    await answer.read()
                    good = answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                good = False
            into.append(time.perf_counter() - began)
            return good

        async def client(number: int) -> None:
            nonlocal failed
            user = users[number % len(users)]
            path = f"/compute/{system}/jobs/{jobs[user]}"
            await asyncio.sleep(number / clients)
            for turn in range(int(seconds)):
                await asyncio.sleep(max(0.0, start + 1 + turn + number / clients - time.perf_counter()))
                failed += not await get(path, user, durations)

        async def liveness() -> None:
            while time.perf_counter() < start + seconds + 1:
                await get("/status/liveness", None, lively)
                await asyncio.sleep(0.05)

        await asyncio.gather(*(get(f"/compute/{system}/jobs/{jobs[user]}", user, []) for user in users))
        await asyncio.to_thread(site.reset_counts)
        start = time.perf_counter()
        await asyncio.gather(liveness(), *(client(number) for number in range(clients)))
        commands = sum((await asyncio.to_thread(site.counts)).values()) / (time.perf_counter() - start)
    asked = len(durations)
    return Outcome(asked, asked - failed, percentile(durations, 0.99), percentile(lively, 0.99), commands)
