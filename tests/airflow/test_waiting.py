"""Many deferred tasks on one triggerer ask the gateway as often as one, on Airflow's real TriggerRunner."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest

from crestline_airflow.triggers import FirecRESTJobTrigger
from harness import triggerer
from harness.patience import until
from plain_firecrest.fixture import PlainFirecrest, running
from plain_firecrest.many import add_jobs, end_jobs

pytestmark = pytest.mark.anyio

COUNT = 300


@pytest.fixture
def plain(define: Any) -> Any:
    with running() as plain:
        define(plain)
        yield plain


@pytest.mark.parametrize("log_output", [True, False])
async def test_waiting_is_shared(plain: PlainFirecrest, log_output: bool) -> None:
    ids = add_jobs(plain, COUNT)
    async with triggerer.running() as at_work:
        for job_id in ids:
            at_work.add(FirecRESTJobTrigger("firecrest_default", plain.system, job_id, log_output))
        await until(lambda: at_work.waiting == COUNT and plain.count("GET", "/jobs") > 0)
        begun = time.monotonic()
        plain.requests.clear()
        await until(lambda: plain.count("GET", "/jobs") >= 3)
        elapsed = time.monotonic() - begun
        requests = [seen for seen in plain.requests if not seen.path.endswith("/jobs")]
        if log_output:  # the first of them at once, the others one every other second
            assert len(requests) <= 25 + elapsed
        else:
            assert not requests
        frozen = gc.get_freeze_count()  # or else the garbage collector stops the triggerer
        later = [[number] for number in range(1000)]
        gc.collect()
        assert gc.get_freeze_count() >= frozen + len(later) > len(later)
        end_jobs(plain)
        await until(lambda: len(at_work.events) == COUNT)
        await until(lambda: gc.get_freeze_count() == 0)
    assert not at_work.failed
    assert {event.payload["job_id"] for event in at_work.events.values()} == set(ids)
    assert {event.payload["state"] for event in at_work.events.values()} == {"completed"}


async def test_a_gateway_that_is_away_is_waited_for(plain: PlainFirecrest) -> None:
    [job_id] = add_jobs(plain, 1)
    plain.down()
    async with triggerer.running() as at_work:
        at_work.add(FirecRESTJobTrigger("firecrest_default", plain.system, job_id))
        await until(lambda: at_work.waiting == 1)
        plain.up()
        end_jobs(plain)
        await until(lambda: at_work.events)
    assert not at_work.failed
