"""`Idempotency-Key` on `POST /compute/{system}/jobs`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from harness.gateway import RunningGateway


def submit(gateway: RunningGateway, key: str, **fields: Any) -> Any:
    job = {"workingDirectory": f"{gateway.home}/files", "script": "#!/bin/sh\ntrue\n", **fields}
    with gateway.http() as http:
        return http.post("/compute/local/jobs", json={"job": job}, headers={"Idempotency-Key": key})


def test_the_same_key_is_the_same_job(gateway: RunningGateway) -> None:
    first, second = submit(gateway, "once"), submit(gateway, "once")
    assert first.status_code == second.status_code == 201
    assert first.json() == second.json()
    assert submit(gateway, "another").json() != first.json()


def test_concurrent_calls_with_one_key_make_one_job(gateway: RunningGateway) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: submit(gateway, "crowd", name="crowd"), range(16)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["jobId"] for answer in answers}) == 1
    with gateway.http() as http:
        assert len(http.get("/compute/local/jobs", params={"name": "crowd"}).json()["jobs"]) == 1


def test_a_key_belongs_to_one_job_description(gateway: RunningGateway) -> None:
    assert submit(gateway, "body", name="a").status_code == 201
    answer = submit(gateway, "body", name="b")
    assert answer.status_code == 409
    assert "new key" in answer.json()["message"]


def test_a_refused_job_does_not_use_the_key_up(gateway: RunningGateway) -> None:
    assert submit(gateway, "second-try", partition="nosuch").status_code == 400
    assert submit(gateway, "second-try").status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 256, "tab\tkey"])
def test_keys_that_are_none(gateway: RunningGateway, key: str) -> None:
    assert submit(gateway, key).status_code == 400
