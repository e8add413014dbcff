"""The backend of "Write a facility backend" works: a site finds it by its entry point, and the client runs on it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crestline.client import Policy, PollPolicy, Site, connect, list_systems
from crestline.client.system import System
from crestline.model import ConflictError, JobNotFoundError, JobSpec, JobState, UnsupportedError
from harness import workstation
from harness.facility_contract import FacilityContract

pytestmark = pytest.mark.anyio

QUICK = Policy(poll=PollPolicy(min_interval=0.05, max_interval=0.5))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The users' directory at the facility."""
    place = tmp_path / "facility"
    place.mkdir()
    return place


@pytest.fixture
def site(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for path in workstation.install(tmp_path / "installed"):
        monkeypatch.syspath_prepend(str(path))
    return Site(url=f"workstation:{place}", api="workstation", token="unused")


@pytest.fixture
async def system(site: Site) -> AsyncIterator[System]:
    async with connect(site, policy=QUICK) as system:
        yield system


class TestWorkstation(FacilityContract):
    """The operations that every facility API has."""


async def test_the_facility_has_one_system(site: Site, system: System, place: Path) -> None:
    assert await list_systems(site) == [{"name": "workstation"}]
    assert system.name == "workstation"
    assert await system.default_workdir() == str(place)
    assert [node.name for node in await system.nodes()] == ["localhost"]


async def test_a_key_leads_to_one_job(site: Site, system: System, place: Path) -> None:
    key = uuid.uuid4().hex
    spec = JobSpec(script="#!/bin/bash\necho ran >> ran\nexit 3\n", name="once")
    job = await system.submit(spec, key=key)
    async with connect(site, policy=QUICK) as other:
        assert (await other.submit(spec, key=key)).job_id == job.job_id
        ended = await other.wait(job)
    assert (ended.state, ended.exit_code) == (JobState.FAILED, 3)
    assert (place / "ran").read_text() == "ran\n"
    with pytest.raises(ConflictError):
        await system.submit(JobSpec(script="#!/bin/bash\n"), key=key)
    assert await system.connection.submission.was_submitted(spec, key)
    assert not await system.connection.submission.was_submitted(spec, "another")


async def test_many_jobs_and_their_list(system: System) -> None:
    specs = [JobSpec(script=f"#!/bin/bash\nexit {number}\n", name=f"job{number}") for number in range(3)]
    jobs = await system.submit_many(specs)
    ended = [await system.wait(job) for job in jobs if not isinstance(job, Exception)]
    assert [job.exit_code for job in ended] == [0, 1, 2]
    assert [job.name for job in await system.jobs(name="job1")] == ["job1"]
    with pytest.raises(JobNotFoundError):
        await system.job("4711")
    with pytest.raises(UnsupportedError):
        await system.submit(JobSpec(script="#!/bin/bash\n", array="0-2"))
