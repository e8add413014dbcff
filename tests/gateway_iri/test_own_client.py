"""The gateway's IRI API by Crestline's own client."""

from __future__ import annotations

from pathlib import Path

import pytest

from crestline.client import Site, connect, list_systems
from crestline.client.backends.iri import tasks
from crestline.client.system import System
from crestline.model import FileMissingError, JobSpec, JobState
from harness.gateway import RunningGateway
from harness.iri_api import QUICK

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _brisk_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_SHORTEST", 0.02)


async def test_a_job_of_our_client_from_submission_to_its_logs(system: System, workdir: Path) -> None:
    spec = JobSpec(script="#!/bin/bash\necho hello $WHO\necho bad >&2\n", name="hi", environment={"WHO": "world"})
    handle = await system.submit(spec)
    job = await system.wait(handle)
    assert job.state is JobState.COMPLETED
    assert job.name.startswith("hi")  # v1 has no keys: the client looks for its own tag in the name
    assert job.exit_code == 0
    log = await system.metadata(handle)
    assert log.script is not None
    assert "echo hello $WHO" in log.script
    assert "".join([text async for text in system.follow(log)]) == "hello world\nbad\n"
    assert [each.job_id for each in await system.jobs() if each.job_id == handle.job_id] == [handle.job_id]


async def test_a_directory_may_have_the_letters_of_a_pattern(system: System, workdir: Path) -> None:
    place = workdir / "%j%%x"
    place.mkdir()
    job = await system.submit(JobSpec(script="#!/bin/bash\necho hi\n", workdir=str(place), stdout="out-%j"))
    assert (await system.wait(job)).state is JobState.COMPLETED
    found = await system.metadata(job)
    assert found.stdout == f"{place}/out-{job.job_id}"
    assert Path(found.stdout).read_text() == "hi\n"


async def test_a_job_that_fails_and_one_that_is_cancelled(system: System) -> None:
    failed = await system.wait(await system.submit(JobSpec(script="#!/bin/bash\nexit 3\n")))
    assert (failed.state, failed.exit_code) == (JobState.FAILED, 3)
    handle = await system.submit(JobSpec(script="#!/bin/bash\nsleep 300\n"))
    await system.cancel(handle)
    assert (await system.wait(handle)).state is JobState.CANCELLED


async def test_files_of_our_client(system: System, workdir: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(range(256)) * 100)
    await system.upload(source, str(workdir / "there"))
    assert (workdir / "there").read_bytes() == source.read_bytes()
    await system.download(str(workdir / "there"), tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    await system.mkdir(str(workdir / "a" / "b"), parents=True)
    assert [each.name for each in await system.ls(str(workdir))] == ["a", "there"]
    assert (await system.stat(str(workdir / "there")))["size"] == 25600
    with pytest.raises(FileMissingError):
        await system.stat(str(workdir / "absent"))
    await system.remove(str(workdir / "there"))
    assert not (workdir / "there").exists()


async def test_the_root_leads_to_the_newest_version(gateway: RunningGateway, workdir: Path) -> None:
    site = Site(name="iri", url=f"{gateway.url}/iri", api="iri", token=gateway.token())
    assert [each["name"] for each in await list_systems(site)] == ["local"]
    async with connect(site, policy=QUICK) as system:
        assert system.backend.description.system["iri"]["version"] == 2
        assert (await system.default_workdir()).startswith(str(workdir.parent))
        [health] = (await system.describe())["servicesHealth"]
        assert health["healthy"]
