"""The gateway's IRI API: Crestline's own client on it, and what users can see and do of each other's."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.client import Policy, PollPolicy, RetryPolicy, Site, SubmitPolicy, connect, list_systems
from crestline.client.system import System
from crestline.gateway.identity.clients import Clients
from crestline.gateway.store import Store
from crestline.model import JobSpec, JobState, MissingFileError
from harness.gateway import RunningGateway, in_thread

pytestmark = pytest.mark.anyio

QUICK = Policy(
    poll=PollPolicy(shortest=0.05, longest=0.5),
    submit=SubmitPolicy(visibility=0.2, look_every=0.05, budget=20),
    retry=RetryPolicy(first_wait=0.05, longest_wait=0.1, attempts=2),
)
VERSIONS = pytest.mark.parametrize("version", [1, 2], ids=["v1", "v2"])
METHODS = {
    "ls": "GET", "stat": "GET", "file": "GET", "head": "GET", "tail": "GET", "view": "GET", "checksum": "GET",
    "download": "GET", "rm": "DELETE", "chmod": "PUT", "chown": "PUT",
}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one tree that the gateway serves."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, served: Path) -> Iterator[RunningGateway]:
    systems = {"local": {"file_systems": [{"path": str(served), "data_type": "scratch", "default_work_dir": True}]}}
    facility = {"name": "Pearl", "organization": "The Lab"}
    with in_thread(tmp_path_factory.mktemp("iri") / "home", systems=systems, iri=facility) as running:
        yield running


@pytest.fixture
def workdir(gateway: RunningGateway, served: Path, request: pytest.FixtureRequest) -> Path:
    place = served / f"work-{time.time_ns()}"
    place.mkdir()
    return place


@pytest.fixture
async def other(gateway: RunningGateway) -> tuple[str, str]:
    """Id and secret of a client for another user."""
    store = await Store.open(gateway.home / "private" / "gateway.db")
    try:
        client = f"client-{time.time_ns()}"
        return client, await Clients(store).add(client, "somebody")
    finally:
        await store.close()


def site_of(gateway: RunningGateway, version: int, workdir: Path, **token: str) -> Site:
    url = f"{gateway.url}/iri/api/v{version}"
    return Site(name="iri", url=url, api="iri", token=gateway.token(**token), options={"workdir": str(workdir)})


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
async def system(gateway: RunningGateway, workdir: Path, request: pytest.FixtureRequest) -> AsyncIterator[System]:
    async with connect(site_of(gateway, request.param, workdir), policy=QUICK) as system:
        yield system


class Face:
    """The API by plain HTTP, for one token."""

    def __init__(self, gateway: RunningGateway, version: int, token: str | None = None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.version = version
        self.http = httpx.Client(
            base_url=f"{gateway.url}/iri/api/v{version}", headers=headers, timeout=60, trust_env=False
        )

    def id_of(self, endpoint: str) -> str:
        found = self.http.get("/status/resources").json()
        return next(str(each["id"]) for each in found if each["supported_endpoints"] == [endpoint])

    def begin(self, name: str, **fields: Any) -> httpx.Response:
        """Begin a task; `resource` is an id."""
        url = f"/filesystem/{name}/{fields.pop('resource', 'local')}"
        method = METHODS.get(name, "POST") if self.version == 1 else "POST"
        if method in ("GET", "DELETE"):
            return self.http.request(method, url, params=fields)
        return self.http.request(method, url, json=fields)

    def task(self, name: str, **fields: Any) -> dict[str, Any]:
        """An operation on files, to its end."""
        answer = self.begin(name, **fields)
        assert answer.status_code in (200, 201), answer.text
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            task: dict[str, Any] = self.http.get(f"/task/{answer.json()['task_id']}").json()
            if task["status"] not in ("pending", "active"):
                return task
            time.sleep(0.02)
        raise TimeoutError(name)

    def submit(self, **spec: Any) -> httpx.Response:
        return self.http.post("/compute/job/local", json=spec)

    def wait(self, job_id: str) -> dict[str, Any]:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            answer = self.http.get(f"/compute/status/local/{job_id}")
            assert answer.status_code in (200, 404), answer.text
            if answer.status_code == 200 and answer.json()["status"]["state"] in ("completed", "failed", "canceled"):
                found: dict[str, Any] = answer.json()
                return found
            time.sleep(0.05)
        raise TimeoutError(job_id)


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def face(gateway: RunningGateway, request: pytest.FixtureRequest) -> Face:
    return Face(gateway, request.param, gateway.token())


# Crestline's client


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
    with pytest.raises(MissingFileError):
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
