"""What one user may send in a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from crestline.gateway.config import RateLimits
from crestline.gateway.metrics import REGISTRY
from crestline.gateway.rate_limits import UserRates
from crestline.model import RateLimitedError
from harness.audit import audit_records
from harness.gateway import RunningGateway, in_thread

JOBS = "/compute/local/jobs"


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with in_thread(tmp_path_factory.mktemp("limited") / "home", rate_limits={"changes_per_minute": 2}) as gateway:
        yield gateway


def refused(kind: str) -> float:
    return REGISTRY.get_sample_value("crestline_rate_limited_total", {"limit": kind}) or 0.0


def test_changes_beyond_the_limit_get_429_and_reads_go_on(limited: RunningGateway) -> None:
    before = refused("changes")
    with limited.http() as http:
        answers = [http.post(JOBS, json={}) for _ in range(6)]
        assert [each.status_code for each in answers[:2]] == [400, 400]
        late = [each for each in answers if each.status_code == 429]
        assert len(late) >= 3, "at most one came back within seconds"
        for answer in late:
            assert 1 <= int(answer.headers["Retry-After"]) <= 30
            assert "may send 2 a minute" in answer.json()["message"]
        assert http.post("/iri/api/v1/compute/job/local", json={}).status_code == 429, "for the other API, too"
        assert [http.get(JOBS).status_code for _ in range(5)] == [200] * 5
        assert http.get(JOBS, params={"pageSize": 1}).status_code == 200
    assert refused("changes") - before == len(late) + 1
    records = [each for each in audit_records(limited) if each.status == 429]
    assert 1 <= len(records) <= 2, "one of each route, whatever their number"


def test_users_do_not_share_a_limit() -> None:
    async def send() -> None:
        rates = UserRates(RateLimits(requests_per_minute=3, changes_per_minute=1))
        for _ in range(3):
            await rates.count("alice", is_change=False)
        with pytest.raises(RateLimitedError) as error:
            await rates.count("alice", is_change=False)
        assert error.value.retry_after == 20
        await rates.count("bob", is_change=True)
        with pytest.raises(RateLimitedError, match="Too many changes: bob"):
            await rates.count("bob", is_change=True)
        await rates.count("bob", is_change=False)

    asyncio.run(send())


def test_without_limits_nothing_is_remembered() -> None:
    rates = UserRates(RateLimits())
    for _ in range(1000):
        asyncio.run(rates.count("alice", is_change=True))
    assert not any(rates._users.values())
