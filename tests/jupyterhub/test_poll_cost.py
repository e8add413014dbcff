"""However many servers there are, one list request per interval serves them all, and no poll waits for anything."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.user import User
from traitlets.config import Config

from crestline.client import Policy, PollPolicy, Site, SubmitPolicy, connect
from crestline.model import JobSpec
from crestline.single_flight import SingleFlight
from crestline.testing.firecrest import PlainFirecrest, running
from crestline_jupyterhub import FirecRESTSpawner
from crestline_jupyterhub.connections import connections
from harness.hub_settings import variables
from harness.waiting import until
from jupyterhub import orm

pytestmark = pytest.mark.anyio

SERVERS = 200
QUICK = Policy(
    poll=PollPolicy(min_interval=0.2, max_interval=0.2, max_duty_cycle=1.0), submit=SubmitPolicy(visibility_timeout=3.0)
)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlainFirecrest]:
    with running(start_delay=3600.0) as plain:
        for name, value in variables(plain).items():
            monkeypatch.setenv(name, value)
        yield plain


@pytest.fixture
async def spawners(plain: PlainFirecrest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[FirecRESTSpawner]]:
    """As a hub has them that was restarted: each with the state of a server whose job waits."""
    monkeypatch.setattr(connections, "policy", QUICK)
    monkeypatch.setattr(connections, "_systems", SingleFlight())  # none of an earlier test's event loop
    site = Site(url=plain.url, token=plain.token(), system=plain.system)
    specs = [JobSpec(script="#!/bin/sh\n", name=f"jupyter-{n}", workdir=str(plain.home)) for n in range(SERVERS)]
    async with connect(site) as system:
        jobs = await system.submit_many(specs, keys_are_new=True)
    session = orm.new_session_factory("sqlite:///:memory:")()
    spawners = []
    for number, job in enumerate(jobs):
        orm_user = orm.User(name=f"user{number}")
        session.add(orm_user)
        session.commit()
        settings = {"authenticator": DummyAuthenticator(), "spawner_class": FirecRESTSpawner, "config": Config()}
        spawner = User(orm_user, settings | {"base_url": "/"}).spawners[""]
        spawner.load_state({"attempt": f"{number:012}", "job_id": job.job_id, "nonce": f"nonce{number}"})
        spawners.append(spawner)
    yield spawners
    for spawner in spawners:
        spawner.clear_state()
    await connections.close()


async def test_one_list_request_per_interval(spawners: list[FirecRESTSpawner], plain: PlainFirecrest) -> None:
    plain.requests.clear()
    lists = f"/compute/{plain.system}/jobs"

    def asked() -> list[str]:
        return [seen.path for seen in plain.requests if seen.method == "GET" and "/compute/" in seen.path]

    await until(lambda: len(asked()) >= 5)
    assert {path.rstrip("/").lower() for path in asked()} == {lists.lower()}
    before = len(plain.requests)
    polls = [spawner.poll() for spawner in spawners for _ in range(10)]
    answers = [run_at_once(poll) for poll in polls]
    assert answers == [None] * 10 * SERVERS
    assert len(plain.requests) <= before + 1  # the monitor's own next look


def run_at_once(poll: object) -> int | None:
    """The answer of a coroutine that waits for nothing."""
    try:
        poll.send(None)  # type: ignore[attr-defined]
    except StopIteration as answer:
        found: int | None = answer.value
        return found
    raise AssertionError("poll waits")


async def test_outage_ends_none_and_an_end_ends_one(spawners: list[FirecRESTSpawner], plain: PlainFirecrest) -> None:
    plain.faults.fail(500, "/compute/", "GET", count=None)
    plain.requests.clear()
    await until(lambda: sum(seen.status == 500 for seen in plain.requests) > 4)
    assert await asyncio.gather(*(spawner.poll() for spawner in spawners)) == [None] * SERVERS
    plain.faults.reset()
    plain.scheduler.end(spawners[7].job_id, "CANCELLED")
    looking = spawners[7]
    await until(lambda: looking._ended is not None)
    answers = await asyncio.gather(*(spawner.poll() for spawner in spawners))
    assert answers[7] == 1
    assert answers[:7] + answers[8:] == [None] * (SERVERS - 1)
