"""One fetch serves all that ask for the same meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from crestline.single_flight import SingleFlight

pytestmark = pytest.mark.anyio


class Source:
    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()
        self.error: Exception | None = None

    async def fetch(self) -> int:
        self.calls += 1
        number = self.calls
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return number


async def test_callers_share_one_fetch_and_its_result() -> None:
    source, flight = Source(), SingleFlight[str, int]()
    asking = [asyncio.create_task(flight.get("a", source.fetch)) for _ in range(20)]
    await asyncio.sleep(0)
    source.gate.set()
    assert await asyncio.gather(*asking) == [1] * 20
    assert await flight.get("a", source.fetch) == 1
    assert await flight.get("b", source.fetch) == 2


async def test_a_cancelled_caller_leaves_the_fetch_to_the_others() -> None:
    source, flight = Source(), SingleFlight[str, int]()
    first = asyncio.create_task(flight.get("a", source.fetch))
    second = asyncio.create_task(flight.get("a", source.fetch))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    source.gate.set()
    assert await second == 1
    assert first.cancelled()


async def test_a_failure_is_raised_for_all_and_not_kept() -> None:
    source, flight = Source(), SingleFlight[str, int]()
    source.gate.set()
    source.error = OSError("away")
    for outcome in await asyncio.gather(*(flight.get("a", source.fetch) for _ in range(3)), return_exceptions=True):
        assert isinstance(outcome, OSError)
    assert source.calls == 1
    source.error = None
    assert await flight.get("a", source.fetch) == 2


async def test_results_that_are_too_old_or_too_many_are_fetched_anew() -> None:
    source = Source()
    source.gate.set()
    at_once = SingleFlight[int, int](ttl=0.0)
    assert [await at_once.get(0, source.fetch) for _ in range(2)] == [1, 2]
    small = SingleFlight[int, int](max_size=2)
    for key in range(10):
        await small.get(key, source.fetch)
        assert len(small) <= 2


async def test_drain_waits_and_returns_the_results() -> None:
    source, flight = Source(), SingleFlight[str, int]()
    asking = asyncio.create_task(flight.get("a", source.fetch))
    await asyncio.sleep(0)
    draining = asyncio.create_task(flight.drain())
    await asyncio.sleep(0)
    source.gate.set()
    assert await draining == [1] == [await asking]
    assert len(flight) == 0
