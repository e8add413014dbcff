"""The backend of "Write a facility backend" works: a site finds it by its entry point, and the client runs on it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crestline.client import Policy, PollPolicy, Site, connect, list_systems
from crestline.client.files import BundleFile, BundleFilter
from crestline.client.system import System
from crestline.model import ConflictError, FileMissingError, JobNotFoundError, JobSpec, JobState, UnsupportedError
from harness import workstation

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


async def test_output_is_followed_while_the_job_runs(system: System, place: Path) -> None:
    job = await system.submit(
        JobSpec(script="#!/bin/bash\necho größe\nuntil [ -e go ]; do sleep 0.05; done\necho end\n")
    )
    log = system.follow(await system.metadata(job))
    assert await anext(log) == "größe\n"
    (place / "go").touch()
    assert "".join([text async for text in log]) == "end\n"
    assert (await system.wait(job)).state is JobState.COMPLETED


async def test_cancel_is_idempotent(system: System) -> None:
    job = await system.submit(JobSpec(script="#!/bin/bash\nsleep 1000\n"))
    await system.cancel(job)
    await system.cancel(job)
    assert (await system.wait(job)).state is JobState.CANCELLED


async def test_directories_travel_both_ways_and_only_once(system: System, place: Path, tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "deep").mkdir(parents=True)
    for number in range(12):
        (source / f"deep/{number}").write_bytes(bytes([number]) * 1000 * number)
    (source / "deep/run").write_text("#!/bin/sh\n")
    (source / "deep/run").chmod(0o755)
    (source / "link").symlink_to("deep/3")
    assert (await system.upload(source, f"{place}/tree")).files == 13
    assert (await system.upload(source, f"{place}/tree")).unchanged == 13
    assert (await system.download(f"{place}/tree", tmp_path / "out")).files == 13
    assert (await system.download(f"{place}/tree", tmp_path / "out")).unchanged == 13
    assert (tmp_path / "out/deep/7").read_bytes() == bytes([7]) * 7000
    assert (tmp_path / "out/link").readlink() == Path("deep/3")
    assert (tmp_path / "out/deep/run").stat().st_mode & 0o100


async def test_bundles(system: System, place: Path, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("f")
    await system.upload_bundle(str(place), [BundleFile(path="a"), BundleFile(path="a/f", source=tmp_path / "f")])
    assert (place / "a/f").read_text() == "f"
    (place / "a/result.out").write_text("42")
    selection = BundleFilter(directory="a", target=tmp_path / "came", patterns=("*.out",))
    assert await system.download_bundle(str(place), [selection]) == {"a": ["result.out"]}
    assert (tmp_path / "came/result.out").read_text() == "42"


async def test_file_operations(system: System, place: Path) -> None:
    await system.write_text(f"{place}/f", "content")
    await system.copy(f"{place}/f", f"{place}/g")
    await system.move(f"{place}/g", f"{place}/h")
    assert await system.read_text(f"{place}/h") == "content"
    assert await system.glob(f"{place}/[f-h]") == [f"{place}/f", f"{place}/h"]
    await system.remove(f"{place}/h")
    with pytest.raises(FileMissingError):
        await system.stat(f"{place}/h")
    with pytest.raises(FileMissingError):
        await system.remove(f"{place}/h")
