"""Many submissions in one request: each with its own outcome, each of them once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import crestline
from crestline.gateway.hosts import Completed
from crestline.gateway.schedulers.command_lines import CommandLine, combine, outcomes, submitting
from crestline.model import ConflictError, InvalidRequestError, Job, JobSpec
from crestline.testing.firecrest import running
from harness.gateway import RunningGateway
from harness.local_commands import LocalCommands
from harness.sites import BRISK, gateway_site, plain_site
from harness.slurm_gateway import SlurmGateway

JOBS = "/compute/local/jobs"
HELD = "#!/bin/sh\n#SBATCH --hold\ntrue\n"


@pytest.fixture
def http(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with gateway.http() as http:
        yield http


def item(key: str | None = None, script: str = HELD, **fields: Any) -> dict[str, Any]:
    return {"job": {"workingDirectory": "/tmp", "script": script, **fields}, "key": key}


def post(http: httpx.Client, items: list[dict[str, Any]], url: str = JOBS) -> list[dict[str, Any]]:
    answer = http.post(f"{url}/batch", json={"jobs": items})
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.json()["results"]
    assert len(results) == len(items)
    return results


def ids(results: list[dict[str, Any]]) -> list[str]:
    assert all(each.get("error") is None for each in results), results
    return [str(each["jobId"]) for each in results]


def test_every_job_has_its_own_outcome(http: httpx.Client) -> None:
    results = post(http, [item("mixed-1"), item("mixed-2", workingDirectory="relative"), item(), item("")])
    assert [bool(each.get("jobId")) for each in results] == [True, False, True, False]
    assert results[1]["error"]["status"] == 400
    assert "Idempotency-Key" in results[3]["error"]["message"]


def test_a_batch_that_is_repeated_brings_the_same_jobs(http: httpx.Client) -> None:
    first = ids(post(http, [item(f"again-{number}") for number in range(5)]))
    assert len(set(first)) == 5
    more = ids(post(http, [item(f"again-{number}") for number in range(7)]))
    assert more[:5] == first
    assert len(set(more)) == 7
    single = http.post(JOBS, json={"job": item()["job"]}, headers={"Idempotency-Key": "again-6"})
    assert single.json()["jobId"] == more[6]


def test_a_key_stands_for_one_job_within_a_batch_too(http: httpx.Client) -> None:
    same = ids(post(http, [item("twice"), item("twice")]))
    assert same[0] == same[1]
    (other,) = post(http, [item("twice", script="#!/bin/sh\nfalse\n")])
    assert other["error"]["status"] == 409


def test_a_refused_job_leaves_its_key_free(http: httpx.Client) -> None:
    (refused,) = post(http, [item("free", workingDirectory="relative")])
    assert refused["error"]["status"] == 400
    ids(post(http, [item("free")]))


def test_too_many(http: httpx.Client) -> None:
    answer = http.post(f"{JOBS}/batch", json={"jobs": [item()] * 1001})
    assert answer.status_code == 400
    assert post(http, []) == []


@pytest.mark.anyio
async def test_the_client_submits_many(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crestline.client.submission.header._IN_A_REQUEST", 10)
    specs = [JobSpec(script=HELD, workdir="/tmp", name=f"many-{number}") for number in range(25)]
    specs[7] = JobSpec(script=HELD, workdir="relative")
    specs[9] = JobSpec(workdir="/tmp")
    async with crestline.connect(gateway_site(gateway), policy=BRISK) as lab:
        keys = [f"many-{number}" for number in range(25)]
        found = await lab.submit_many(specs, keys)
        wrong = {number for number, each in enumerate(found) if not isinstance(each, Job)}
        assert wrong == {7, 9}
        assert all(isinstance(found[number], InvalidRequestError) for number in wrong)
        again = await lab.submit_many(specs[:7], keys[:7])
        assert [each.job_id for each in again if isinstance(each, Job)] == [
            each.job_id for each in found[:7] if isinstance(each, Job)
        ]
        (conflict,) = await lab.submit_many([specs[1]], [keys[0]])
        assert isinstance(conflict, ConflictError)
        with pytest.raises(InvalidRequestError):
            await lab.submit_many(specs[:2], ["same", "same"])


@pytest.mark.anyio
async def test_plain_firecrest_gets_them_one_by_one() -> None:
    with running(kill_wait=0.2) as plain:
        async with crestline.connect(plain_site(plain), policy=BRISK) as lab:
            specs = [JobSpec(script="#!/bin/bash\ntrue\n", workdir=str(plain.home)) for _ in range(5)]
            found = await lab.submit_many(specs, [f"plain-{number}" for number in range(5)])
            assert len({each.job_id for each in found if isinstance(each, Job)}) == 5
        assert sum(seen.method == "POST" and seen.path.endswith("/jobs") for seen in plain.requests) == 5


def test_a_batch_on_slurm(slurm_gateway: SlurmGateway) -> None:
    url = "/compute/cluster/jobs"
    awkward = {"A": "it's; $(false) `x`", "B": "two\nlines", "C": "EOF"}
    with slurm_gateway.http(slurm_gateway.client_of("alice")) as http:
        script = "#!/bin/sh\n#SBATCH --hold\ncat <<'EOF'\nsome text\nEOF\n"
        good = [item(f"slurm-{number}", script, workingDirectory="/home/alice", env=awkward) for number in range(9)]
        bad = item("slurm-bad", script, workingDirectory="/home/alice", partition="nowhere")
        unending = item("slurm-short", script.rstrip("\n"), workingDirectory="/home/alice")
        results = post(http, [*good[:4], bad, *good[4:], unending], url)
        assert "partition" in results.pop(4)["error"]["message"]
        found = ids(results)
        assert len(set(found)) == 10
        assert ids(post(http, [*good, unending], url)) == found
        listed = http.get(url, params={"ids": ",".join(found)}).json()["jobs"]
        assert [each["jobId"] for each in listed] == sorted(found, key=int)
        assert http.get(f"{url}/{found[0]}/metadata").json()["jobs"][0]["script"] == script
        for each in found:
            http.delete(f"{url}/{each}")


@pytest.mark.anyio
async def test_commands_that_run_together_are_told_apart() -> None:
    lines = [
        submitting(["sh", "-c", 'cat; echo "$X" >&2; exit 3'], {"X": "it's"}, "one\ntwo", 10),
        submitting(["cat"], {}, "", 10),
        submitting(["sh", "-c", "printf 'no newline'"], {}, "#!/bin/sh\n", 10),
    ]
    done, mark = await run_together(lines)
    first, second, third = outcomes(done, mark, 3)
    assert first == Completed(3, b"one\ntwo\n", b"it's\n")
    assert second == Completed(0, b"", b"")
    assert third == Completed(0, b"no newline", b"")


@pytest.mark.anyio
async def test_after_a_command_that_hung_no_other_is_tried() -> None:
    lines = [
        submitting(["true"], {}, "", 10),
        submitting(["sleep", "60"], {}, "", 0.2),
        submitting(["true"], {}, "", 1),
    ]
    done, mark = await run_together(lines)
    first, second, third = outcomes(done, mark, 3)
    assert first is not None
    assert second is not None
    assert (first.exit_status, second.exit_status, third) == (0, 124, None)


async def run_together(lines: list[CommandLine]) -> tuple[Completed, str]:
    line, mark = combine(lines, 60)
    return await LocalCommands({}, "USER").run("me", line.argv, input=line.input, timeout=60), mark
