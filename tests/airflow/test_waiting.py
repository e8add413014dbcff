"""Many deferred tasks on one triggerer ask the gateway as often as one, on Airflow's real TriggerRunner."""

from __future__ import annotations

import gc
import socket
import time
from typing import Any

import pytest
from httpx_retries import Retry

from crestline.client import Policy, RetryPolicy
from crestline.testing.firecrest import PlainFirecrest, running
from crestline_airflow.operators import FirecRESTSubmitOperator
from crestline_airflow.operators.transfer import FirecRESTTransferTrigger
from crestline_airflow.sensors.triggers import FirecRESTFileSensorTrigger, FirecRESTJobSensorTrigger
from crestline_airflow.triggers import FirecRESTJobTrigger, FirecRESTSubmitTrigger
from harness import triggerer
from harness.seeming_jobs import add_jobs, end_jobs
from harness.waiting import until

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
    collector = (gc.get_freeze_count(), gc.get_threshold(), list(gc.callbacks))
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
        assert (gc.get_freeze_count(), gc.get_threshold(), gc.callbacks) == collector  # the triggerer's own
        end_jobs(plain)
        await until(lambda: len(at_work.events) == COUNT)
    assert not at_work.failed
    assert {event.payload["job_id"] for event in at_work.events.values()} == set(ids)
    assert {event.payload["state"] for event in at_work.events.values()} == {"completed"}


TRIGGERS = {
    "job": lambda system, job_id, files: FirecRESTJobTrigger("firecrest_default", system, job_id),
    "transfer": lambda system, job_id, files: FirecRESTTransferTrigger("firecrest_default", system, [job_id]),
    "job sensor": lambda system, job_id, files: FirecRESTJobSensorTrigger("firecrest_default", system, job_id),
    "file sensor": lambda system, job_id, files: FirecRESTFileSensorTrigger("firecrest_default", system, files, 0.1),
}


@pytest.fixture
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client's own retries end at once, so that what a trigger does then is seen."""
    monkeypatch.setattr("crestline_airflow.shared._POLICY", Policy(retry=RetryPolicy(total_timeout=1.0)))
    monkeypatch.setattr("crestline.client.auth.token_endpoint._RETRY", Retry(total=0))
    monkeypatch.setattr("crestline_airflow.shared._REOPEN_DELAY", 0.1)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("kind", TRIGGERS)
@pytest.mark.parametrize("away", ["gateway", "issuer"])
async def test_a_trigger_that_starts_during_an_outage_waits(
    plain: PlainFirecrest, define: Any, caplog: pytest.LogCaptureFixture, kind: str, away: str
) -> None:
    [job_id] = add_jobs(plain, 1)
    end_jobs(plain)
    if away == "issuer":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            issuer = f"http://127.0.0.1:{closed.getsockname()[1]}/token"
        define(plain, extra={"auth_url": issuer, "system": plain.system})
    else:
        plain.down()
    async with triggerer.running() as at_work:
        at_work.add(TRIGGERS[kind](plain.system, job_id, str(plain.home)))
        await until(lambda: sum("Connection firecrest_default" in line for line in caplog.messages) >= 2)
        assert at_work.waiting == 1
        assert not at_work.failed
        assert not at_work.events
        define(plain)
        if away == "gateway":
            plain.up()
        await until(lambda: at_work.events or at_work.failed)
    assert not at_work.failed
    [event] = at_work.events.values()
    assert "error" not in event.payload


def task_without_worker(system: str, script: str) -> FirecRESTSubmitTrigger:
    operator = FirecRESTSubmitOperator(task_id="job", system=system, script=script, start_from_trigger=True)
    return FirecRESTSubmitTrigger(**operator.start_trigger_args.trigger_kwargs)


@pytest.mark.usefixtures("_impatient")
async def test_an_outage_while_another_trigger_holds_the_connection(
    plain: PlainFirecrest, caplog: pytest.LogCaptureFixture
) -> None:
    """What is submitted, and what is cancelled, then waits for the gateway as everything does."""
    [job_id] = add_jobs(plain, 1)
    async with triggerer.running() as at_work:
        at_work.add(FirecRESTJobTrigger("firecrest_default", plain.system, job_id, False))
        killed = at_work.add(task_without_worker(plain.system, "#!/bin/bash\nsleep 600\n"))
        await until(lambda: [job.state for job in plain.jobs()[1:]] == ["RUNNING"])
        await until(lambda: len(at_work.supervisor.xcoms) >= 3)
        plain.down()
        begun = at_work.add(task_without_worker(plain.system, "#!/bin/bash\ntrue\n"))
        await until(lambda: at_work.waiting == 3)
        at_work.supervisor.state = "failed"
        at_work.cancel(killed)
        await until(lambda: sum("Connection firecrest_default" in line for line in caplog.messages) >= 2)
        assert not at_work.events
        at_work.supervisor.state = "deferred"
        plain.up()
        await until(lambda: begun in at_work.events and at_work.waiting == 1)
    assert not at_work.failed
    assert [job.state.split()[0] for job in plain.jobs()[1:]] == ["CANCELLED", "COMPLETED"]


@pytest.mark.parametrize("kind", ["job", "job sensor", "file sensor"])
async def test_what_no_waiting_mends_is_told_as_it_is(plain: PlainFirecrest, define: Any, kind: str) -> None:
    define(plain, password="wrong")
    async with triggerer.running() as at_work:
        at_work.add(TRIGGERS[kind](plain.system, "1", "/"))
        await until(lambda: at_work.events or at_work.failed)
    assert not at_work.failed
    [event] = at_work.events.values()
    assert event.payload["error"]["type"] == "AuthenticationError"
