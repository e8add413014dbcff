"""Gateways on one database ask the batch system once, and another one asks if that gateway dies."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from tests.gateway.test_snapshot import FOREVER, FakeSlurm, job, states

from crestline.gateway.schedulers import shared_lists
from crestline.gateway.schedulers.job_cache import CachedJob, JobCache
from crestline.gateway.schedulers.shared_lists import SharedLists
from crestline.gateway.store import Store
from crestline.model import GatewayUnavailableError
from harness.postgresql import PostgresServer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def stores(postgresql: PostgresServer) -> AsyncIterator[list[Store]]:
    """Of three gateways on one database."""
    url = postgresql.create_database("shared_lists")
    opened = [await Store.open(url) for _ in range(3)]
    yield opened
    for store in opened:
        await store.close()


async def test_replicas_ask_once(stores: list[Store], monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = FakeSlurm()
    slurm.hold(*(job(str(n), "RUNNING", user="bob") for n in range(2500)), job("9_[4-6]", "PENDING"))
    books = [
        JobCache(slurm, "observer", None, max_age=FOREVER, sharing=SharedLists(store, "daint")) for store in stores
    ]
    answers = await asyncio.gather(*(book.by_ids(["7", "9_5"]) for book in books for _ in range(20)))
    assert [states(answer) for answer in answers] == [{"7": "RUNNING", "9_5": "PENDING"}] * 60
    assert len(await books[2].recent("bob", 0)) == 2500
    assert slurm.calls["queue"] == 1

    # A caller who has changed something is not told of it from a list that another gateway made before.
    changed = time.monotonic()
    slurm.hold(job("8", "RUNNING"))
    for book in books:
        assert states(await book.by_ids(["8"], changed)) == {"8": "RUNNING"}
    assert slurm.calls["queue"] >= 2
    for book in books:
        await book.close()

    # Another user may see other jobs.
    asked: list[str] = []

    async def fetch() -> list[CachedJob]:
        asked.append("x")
        return [job("1", "RUNNING")]

    one, two, _ = (SharedLists(store, "daint") for store in stores)
    await one.get("alice", None, time.monotonic(), fetch)
    await two.get("bob", None, 0.0, fetch)
    assert len(asked) == 2

    # The gateway that asks dies: its lease ends, and another one asks.
    monkeypatch.setattr(shared_lists, "_LEASE", 0.5)
    name = one._name("alice", None)
    state = await one._refresh(name)
    assert await one._acquire_lease(name, state)
    assert not await two._acquire_lease(name, state)
    changed = time.monotonic()
    listed, begun = await two.get("alice", None, changed, fetch)
    assert (len(listed), len(asked)) == (1, 3)
    assert begun >= changed

    # One that fails leaves the lease at once.
    async def fail() -> list[CachedJob]:
        raise GatewayUnavailableError("Slurm did not answer in time.")

    with pytest.raises(GatewayUnavailableError):
        await one.get("alice", None, time.monotonic(), fail)
    await two.get("alice", None, time.monotonic(), fetch)
    assert len(asked) == 4


async def test_without_the_database_each_asks_itself() -> None:
    store = Store.connect("postgresql://nobody@127.0.0.1:1/none")
    slurm = FakeSlurm()
    slurm.hold(job("1", "RUNNING"))
    book = JobCache(slurm, "observer", None, max_age=FOREVER, sharing=SharedLists(store, "daint"))
    assert states(await book.by_ids(["1"])) == {"1": "RUNNING"}
    await book.close()
    await store.close()
