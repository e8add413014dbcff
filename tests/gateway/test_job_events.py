"""Changes of jobs as server-sent events, conditional requests and long polls, on a served gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from harness.gateway import RunningGateway

JOBS = "/compute/local/jobs"
FOREVER = 60.0
SLEEP = "#!/bin/sh\nsleep 60\n"
HELD = "#!/bin/sh\n#SBATCH --hold\ntrue\n"


@pytest.fixture
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.http() as http:
        yield http


def submit(http: httpx.Client, script: str = SLEEP, **fields: Any) -> str:
    answer = http.post(JOBS, json={"job": {"workingDirectory": "/tmp", "script": script, **fields}})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["jobId"])


@dataclass
class Event:
    """One message."""

    name: str
    data: dict[str, Any]
    id: str | None

    @property
    def job_id(self) -> str:
        return str(self.data["jobId"])

    @property
    def state(self) -> str:
        return str(self.data["status"]["state"])


@contextmanager
def events(http: httpx.Client, after: str | None = None, **params: Any) -> Iterator[Iterator[Event]]:
    headers = {"Last-Event-ID": after} if after else {}
    with http.stream("GET", f"{JOBS}/events", params=params, headers=headers, timeout=FOREVER) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")

        def read() -> Iterator[Event]:
            fields: dict[str, str] = {}
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name:
                    fields[name] = value
                elif fields:
                    yield Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
                    fields = {}

        yield read()


def until(stream: Iterator[Event], job_id: str, *states: str) -> list[Event]:
    """What comes until the job is in one of these states, that included."""
    seen = []
    for event in stream:
        seen.append(event)
        if event.name == "job" and event.job_id == job_id and event.state.startswith(states):
            return seen
    raise AssertionError(f"the stream ended after {seen}")


def until_ready(stream: Iterator[Event]) -> list[Event]:
    seen = []
    for event in stream:
        if event.name == "ready":
            return seen
        seen.append(event)
    raise AssertionError("the stream ended")


def test_the_state_first_then_every_change_until_the_end(http: httpx.Client) -> None:
    job_id = submit(http, HELD)
    with events(http, ids=job_id) as stream:
        (first,) = until_ready(stream)
        assert (first.job_id, first.state) == (job_id, "PENDING")
        http.delete(f"{JOBS}/{job_id}")
        last = until(stream, job_id, "CANCELLED")[-1]
        assert last.data == http.get(f"{JOBS}/{job_id}").json()["jobs"][0]


def test_jobs_that_come_later_are_told_too(http: httpx.Client) -> None:
    with events(http) as stream:
        until_ready(stream)
        job_id = submit(http, "#!/bin/sh\ntrue\n")
        until(stream, job_id, "COMPLETED")


def test_only_the_jobs_that_are_named(http: httpx.Client) -> None:
    other, mine = submit(http, HELD), submit(http, HELD)
    with events(http, ids=mine) as stream:
        until_ready(stream)
        http.delete(f"{JOBS}/{other}")
        http.delete(f"{JOBS}/{mine}")
        assert {event.job_id for event in until(stream, mine, "CANCELLED")} == {mine}


def test_an_array_is_told_element_by_element(http: httpx.Client) -> None:
    job_id = submit(http, "#!/bin/sh\n#SBATCH --array=1-2\n#SBATCH --hold\ntrue\n")
    with events(http, ids=job_id) as stream:
        assert {event.job_id for event in until_ready(stream)} == {f"{job_id}_1", f"{job_id}_2"}
        http.delete(f"{JOBS}/{job_id}_2")
        until(stream, f"{job_id}_2", "CANCELLED")
    http.delete(f"{JOBS}/{job_id}")


def test_an_unknown_id_is_said_to_be_missing(http: httpx.Client) -> None:
    with events(http, ids="987654321") as stream:
        (event,) = until_ready(stream)
        assert (event.name, event.data) == ("missing", {"jobIds": ["987654321"]})


def test_an_end_between_two_streams_is_sent_on_resume(http: httpx.Client) -> None:
    ended, going = submit(http, HELD), submit(http, HELD)
    with events(http, ids=f"{ended},{going}") as stream:
        seen = until_ready(stream)
        position = max(seen, key=lambda event: int((event.id or "").rpartition(".")[2])).id
    http.delete(f"{JOBS}/{ended}")
    with events(http, after=position, ids=f"{ended},{going}") as stream:
        again = until_ready(stream)
        assert [(event.job_id, event.state[:9]) for event in again] == [(ended, "CANCELLED")]
    with events(http, after="another-life.7", ids=f"{ended},{going}") as stream:
        assert {event.job_id for event in until_ready(stream)} == {ended, going}
    http.delete(f"{JOBS}/{going}")


def test_bad_ids_are_refused_before_anything_is_sent(http: httpx.Client) -> None:
    assert http.get(f"{JOBS}/events", params={"ids": "1;rm"}).status_code == 400
    assert http.get(f"{JOBS}/events", params={"ids": ",".join(["1"] * 1001)}).status_code == 400


@pytest.mark.parametrize("single", [True, False])
def test_what_the_client_has_is_not_sent_again(http: httpx.Client, single: bool) -> None:
    job_id = submit(http, HELD)
    url, params = (f"{JOBS}/{job_id}", {}) if single else (JOBS, {"ids": job_id})
    tag = http.get(url, params=params).headers["ETag"]
    same = http.get(url, params=params, headers={"If-None-Match": f'"other", {tag}'})
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    http.delete(f"{JOBS}/{job_id}")
    other = http.get(url, params=params, headers={"If-None-Match": tag})
    assert other.status_code == 200
    assert other.headers["ETag"] != tag
    assert other.json()["jobs"][0]["status"]["state"].startswith("CANCELLED")


def test_the_clock_of_a_running_job_is_no_change(http: httpx.Client) -> None:
    job_id = submit(http)
    with events(http, ids=job_id) as stream:
        until(stream, job_id, "RUNNING")
    answers = [http.get(f"{JOBS}/{job_id}")]
    while answers[-1].json()["jobs"][0]["time"]["elapsed"] == answers[0].json()["jobs"][0]["time"]["elapsed"]:
        answers.append(http.get(f"{JOBS}/{job_id}"))
    assert answers[0].headers["ETag"] == answers[-1].headers["ETag"]
    http.delete(f"{JOBS}/{job_id}")


@pytest.mark.parametrize("single", [True, False])
def test_a_long_poll_ends_with_the_change(http: httpx.Client, single: bool) -> None:
    job_id = submit(http, "#!/bin/sh\nsleep 1\n")
    url, params = (f"{JOBS}/{job_id}", {"wait": 60}) if single else (JOBS, {"ids": job_id, "wait": 60})
    answer = http.get(url, params=params)
    while answer.json()["jobs"][0]["status"]["state"] != "COMPLETED":
        answer = http.get(url, params=params, headers={"If-None-Match": answer.headers["ETag"]}, timeout=FOREVER)
        assert answer.status_code == 200  # each of them a change, none for want of patience


def test_a_long_poll_without_a_change_ends_with_304(http: httpx.Client) -> None:
    job_id = submit(http, HELD)
    tag = http.get(f"{JOBS}/{job_id}").headers["ETag"]
    answer = http.get(f"{JOBS}/{job_id}", params={"wait": 0.2}, headers={"If-None-Match": tag})
    assert answer.status_code == 304
    http.delete(f"{JOBS}/{job_id}")


def test_a_long_poll_is_for_jobs_of_ones_own(http: httpx.Client) -> None:
    assert http.get(JOBS, params={"wait": 1, "allusers": True}).status_code == 400
    assert http.get(JOBS, params={"wait": 3600}).status_code == 400
