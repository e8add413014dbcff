"""Nothing healthy is lost: a real hub and its proxy before a plain FirecREST to which everything may happen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crestline.testing.firecrest import PlainFirecrest
from harness.hub import Hub
from harness.hub_site import active_jobs, hub_before_firecrest, spawn_queued, spawn_started

PATIENCE = "c.FirecRESTSpawner.cancel_patience = 0.5\n"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, PlainFirecrest]]:
    with hub_before_firecrest(tmp_path_factory.mktemp("hub"), PATIENCE) as site:
        yield site


@pytest.fixture
def hub(site: tuple[Hub, PlainFirecrest]) -> Hub:
    return site[0]


@pytest.fixture
def plain(site: tuple[Hub, PlainFirecrest]) -> Iterator[PlainFirecrest]:
    plain = site[1]
    yield plain
    plain.faults.reset()
    plain.settings.start_delay = 0.0
    plain.up()


def answers(hub: Hub, user: str) -> bool:
    with hub.http() as http:
        return http.get(f"/user/{user}/api").status_code == 200


def test_sessions_stay_whatever_the_gateway_answers(hub: Hub, plain: PlainFirecrest) -> None:
    hub.spawn("anna")
    hub.ready("anna")
    (job_id,) = active_jobs(plain, "-anna-")

    def bad_answers(status: int) -> int:
        return sum(seen.method == "GET" and seen.status == status for seen in plain.requests)

    for status in (404, 500, 403, 429):
        before = bad_answers(status)
        plain.faults.fail(status, "/compute/", "GET", count=None)
        hub.wait(lambda status=status, before=before: bad_answers(status) > before + 4, f"no request got {status}")
        assert (hub.server("anna") or {})["ready"]
        plain.faults.reset()
    plain.faults.garble("/compute/", "GET", count=None)
    before = len(plain.requests)
    hub.wait(lambda: len(plain.requests) > before + 4, "no request was sent")
    plain.faults.reset()
    plain.faults.reject_tokens = True
    before = bad_answers(401)
    hub.wait(lambda: bad_answers(401) > before + 4, "no request got 401")
    plain.faults.reject_tokens = False
    plain.down(seconds=3)
    before = len(plain.requests)
    hub.wait(lambda: len(plain.requests) > before + 4, "no request was sent after the outage")

    assert (hub.server("anna") or {})["ready"]
    assert answers(hub, "anna")
    assert active_jobs(plain, "-anna-") == [job_id]


def test_a_job_that_ended_is_noticed_by_the_monitor(hub: Hub, plain: PlainFirecrest) -> None:
    hub.spawn("ben")
    hub.ready("ben")
    (job_id,) = active_jobs(plain, "-ben-")
    plain.scheduler.end(job_id, "NODE_FAIL", 1)
    hub.wait(lambda: not (hub.server("ben") or {}).get("ready"), "the hub did not notice")  # it polls once an hour
    hub.wait(lambda: not (hub.server("ben") or {}).get("pending"), "the hub did not end the server")
    assert hub.spawn("ben").status_code in (201, 202)
    hub.ready("ben")
    assert active_jobs(plain, "-ben-") != [job_id]


def test_stop_during_an_outage_cancels_later(hub: Hub, plain: PlainFirecrest) -> None:
    hub.spawn("cleo")
    hub.ready("cleo")
    (job_id,) = active_jobs(plain, "-cleo-")
    plain.down()
    hub.stop_server("cleo")
    assert active_jobs(plain, "-cleo-") == [job_id]
    plain.up()
    hub.wait(lambda: not active_jobs(plain, "-cleo-"), "the job was not cancelled")


def test_progress_says_that_the_state_is_unknown(hub: Hub, plain: PlainFirecrest) -> None:
    plain.settings.start_delay = 3600
    hub.spawn("dora")
    hub.wait(lambda: active_jobs(plain, "-dora-"), "no job")
    with hub.http() as http, http.stream("GET", "/hub/api/users/dora/server/progress", timeout=120) as events:
        lines = events.iter_lines()
        assert any("is in the queue" in line for line in lines)
        plain.faults.fail(500, "/compute/", "GET", count=None)
        assert any("not known now" in line for line in lines)
        plain.faults.reset()
        plain.settings.start_delay = 0
        assert any('"ready": true' in line for line in lines)


def test_hub_killed_while_the_job_waits_takes_it_up_again(hub: Hub, plain: PlainFirecrest) -> None:
    job_id = spawn_queued(hub, plain, "emil")
    url = (hub.server("emil") or {})["url"]
    hub.kill()
    hub.start()
    plain.settings.start_delay = 0
    assert hub.ready("emil")["url"] == url
    assert answers(hub, "emil")
    assert active_jobs(plain, "-emil-") == [job_id]


def test_hub_killed_in_the_middle_of_a_submit_finds_the_job(hub: Hub, plain: PlainFirecrest) -> None:
    plain.faults.delay(60, "/jobs$", "POST", when="after")
    hub.spawn("fred")
    hub.wait(lambda: active_jobs(plain, "-fred-"), "no job")
    hub.kill()
    (job_id,) = active_jobs(plain, "-fred-")
    plain.faults.reset()
    hub.start()
    hub.ready("fred")
    assert answers(hub, "fred")
    assert active_jobs(plain, "-fred-") == [job_id]


def test_hub_killed_before_a_submit_says_that_there_is_no_server(hub: Hub, plain: PlainFirecrest) -> None:
    plain.faults.fail(503, "/jobs$", "POST", count=None)
    hub.spawn("gina")
    hub.wait(lambda: any(seen.method == "POST" and seen.status == 503 for seen in plain.requests), "nothing was sent")
    hub.kill()
    plain.faults.reset()
    hub.start()
    hub.wait(lambda: not (hub.server("gina") or {}).get("pending"), "the check stays pending")
    assert not (hub.server("gina") or {}).get("ready")
    hub.spawn("gina")
    hub.ready("gina")


def test_a_slow_gateway_does_not_hold_up_the_hub(hub: Hub, plain: PlainFirecrest) -> None:
    plain.faults.delay(600, "", "", count=None)
    hub.spawn("hans")
    with hub.http() as http:
        for _ in range(20):
            assert http.get("/hub/api/", timeout=60).status_code == 200
    assert (hub.server("hans") or {})["pending"] == "spawn"
    plain.faults.reset()
    hub.stop_server("hans")


def test_job_that_ran_again_while_the_hub_was_dead_is_found_where_it_is_now(hub: Hub, plain: PlainFirecrest) -> None:
    hub.spawn("ida")
    url = hub.ready("ida")["url"]
    (job_id,) = active_jobs(plain, "-ida-")
    hub.kill()
    plain.scheduler.requeue(job_id)
    hub.start()
    hub.wait(lambda: not (hub.server("ida") or {"pending": None})["pending"], "the check stays pending")
    assert hub.ready("ida")["url"] == url
    assert answers(hub, "ida")
    assert active_jobs(plain, "-ida-") == [job_id]


def test_server_that_waits_is_shown_and_stopped_after_the_hub_came_back(hub: Hub, plain: PlainFirecrest) -> None:
    job_id = spawn_queued(hub, plain, "jana")
    hub.kill()
    hub.start()
    with (
        hub.http() as http,
        http.stream("GET", "/hub/api/users/jana/server/progress", timeout=120) as events,
    ):
        lines = events.iter_lines()
        assert any(f"Job {job_id} is in the queue" in line for line in lines)
        hub.stop_server("jana")
        assert any("cancelled" in line for line in lines)
    hub.wait(lambda: not active_jobs(plain, "-jana-"), "the job was not cancelled")
    assert "Traceback" not in hub.log().rpartition("was stopped while it waited")[2]

    plain.settings.start_delay = 0
    hub.spawn("jana")
    hub.ready("jana")
    assert answers(hub, "jana")
    hub.stop_server("jana")


def test_job_that_ended_while_the_hub_was_dead_is_told(hub: Hub, plain: PlainFirecrest) -> None:
    job_id = spawn_queued(hub, plain, "kurt")
    hub.kill()
    plain.scheduler.end(job_id, "NODE_FAIL", 1)
    hub.start()
    hub.wait(lambda: not (hub.server("kurt") or {}).get("pending"), "the check stays pending")
    assert f"The server did not start. A node of job {job_id}" in hub.log()
    spawn_started(hub, plain, "kurt")
