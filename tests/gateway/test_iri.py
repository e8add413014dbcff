"""The gateway's IRI API: Crestline's own client on it, and what users can see and do of each other's."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.client import Policy, PollPolicy, RetryPolicy, Site, SubmitPolicy, connect, list_systems
from crestline.client.system import System
from crestline.gateway.audit import AuditQuery, AuditTrail
from crestline.gateway.identity.clients import Clients
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.gateway.store import Store
from crestline.model import JobSpec, JobState, MissingFileError
from crestline.wire.extensions import AllocationInfo
from harness.gateway import RunningGateway, in_thread
from harness.sites import gateway_site, iri_site

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

    def named(self, name: str) -> str:
        """The id of a resource."""
        return next(str(each["id"]) for each in self.http.get("/status/resources").json() if each["name"] == name)

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


# the facility


@VERSIONS
def test_the_facility_and_its_resources_are_open_and_nothing_else_is(gateway: RunningGateway, version: int) -> None:
    face = Face(gateway, version)
    facility = face.http.get("/facility").json()
    assert (facility["name"], facility["organization_name"]) == ("Pearl", "The Lab")
    [site] = face.http.get("/facility/sites").json()
    assert httpx.get(facility["site_uris"][0]).json() == site
    compute, files = face.http.get("/status/resources").json()
    assert (compute["name"], files["name"], compute["group"], files["group"]) == (
        "local",
        "local-files",
        *["local"] * 2,
    )
    assert httpx.get(site["resource_uris"][0]).json() == compute
    assert face.http.get(f"/status/resources/{files['name']}").json()["id"] == files["id"]
    assert compute["current_status"] == files["current_status"] == "up"
    assert httpx.get(compute["capability_uris"][0]).json()["name"] == "local"
    assert face.http.get("/compute/resources").json() == [compute]
    found = face.http.request("GET" if version == 1 else "POST", "/filesystem/resources")
    assert found.json() == [files]
    assert face.http.get("/status/incidents").json() == face.http.get("/status/events").json() == []
    for method, path in (
        ("POST", "/compute/job/local"), ("GET", "/compute/status/local/1"), ("POST", "/compute/status/local"),
        ("DELETE", "/compute/cancel/local/1"), ("GET", "/task"), ("GET", "/account/projects"),
        ("GET" if version == 1 else "POST", "/filesystem/ls/local?path=/"), ("GET", "/task/1"), ("DELETE", "/task/1"),
        ("POST", "/filesystem/upload/local?path=/x"),
    ):  # fmt: skip
        answer = face.http.request(method, path)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), path
        assert answer.headers["content-type"].startswith("application/problem+json")
        assert answer.json()["type"].endswith("/problems/unauthorized")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"name": "local"}, ["local"]),
        ({"group": "local", "limit": 1, "offset": 1}, ["local-files"]),
        ({"description": "Files"}, ["local-files"]),
        ({"resource_type": "storage"}, ["local-files"]),
        ({"current_status": "down"}, []),
        ({"capability": "node_hours"}, ["local"]),
        ({"modified_since": "2999-01-01T00:00:00Z"}, []),
        ({"limit": 0}, []),
        ({"offset": 10**30}, []),
    ],
)
def test_filters_of_resources(gateway: RunningGateway, query: dict[str, Any], names: list[str]) -> None:
    found = Face(gateway, 1).http.get("/status/resources", params=query)
    assert [each["name"] for each in found.json()] == names


def test_filters_of_capabilities(gateway: RunningGateway) -> None:
    face = Face(gateway, 1)
    for query, names in (
        ({}, ["local"]), ({"name": "other"}, []), ({"modified_since": "2999-01-01T00:00:00Z"}, []), ({"offset": 1}, [])
    ):  # fmt: skip
        found = face.http.get("/account/capabilities", params=query)
        assert [each["name"] for each in found.json()] == names


def test_types_of_resources_are_found_by_their_first_segments(gateway: RunningGateway) -> None:
    face = Face(gateway, 2)
    for wanted, names in (("compute", ["local"]), ("storage:filesystem", ["local-files"]), ("comp", [])):
        found = face.http.get("/status/resources", params={"resource_type": f"urn:doe-iri:resource:{wanted}"})
        assert [each["name"] for each in found.json()] == names


@pytest.mark.parametrize(
    ("path", "status", "name"),
    [
        ("/status/resources?limit=1001", 400, "limit"),
        ("/status/resources?limit=x", 400, "limit"),
        ("/status/resources?name=", 400, "name"),
        ("/status/resources?modified_since=5", 400, "modified_since"),
        ("/status/incidents?from=2026-01-01", 400, "from"),
        ("/status/resources?colour=red", 422, None),
        ("/status/resources?limit=1&limit=2", 422, None),
        ("/status/resources/nosuch", 404, None),
        ("/status/incidents/nosuch", 404, None),
        ("/nosuch", 404, None),
    ],
)
def test_refusals_are_problems(gateway: RunningGateway, path: str, status: int, name: str | None) -> None:
    answer = Face(gateway, 1).http.get(path)
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert {"type", "status", "instance", "title", "detail"} <= problem.keys()
    assert [each["name"] for each in problem.get("invalid_params", [])] == ([name] if name else [])


def test_another_method_is_refused_with_the_true_ones(face: Face) -> None:
    answer = face.http.patch("/compute/job/local")
    assert (answer.status_code, set(answer.headers["Allow"].split(", "))) == (405, {"OPTIONS", "POST"})
    assert {"GET", "DELETE"} < set(face.http.options("/task/x").headers["Allow"].split(", "))


def test_a_maintenance_and_an_outage_are_incidents(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    away = {"message": "Cooling is replaced.", "end": "2999-01-01T00:00:00Z"}
    system = {"file_systems": [{"path": str(tree), "default_work_dir": True}]}
    with in_thread(tmp_path / "home", systems={"one": system | {"maintenance": away}, "two": system}) as gateway:
        face = Face(gateway, 1, gateway.token())
        states = {each["name"]: each["current_status"] for each in face.http.get("/status/resources").json()}
        assert states == {"one": "down", "one-files": "down", "two": "up", "two-files": "up"}
        [incident] = face.http.get("/status/incidents", params={"type": "planned"}).json()
        assert (incident["description"], incident["resolution"]) == ("Cooling is replaced.", "unresolved")
        assert httpx.get(incident["event_uris"][0]).json()["incident_uri"] == incident["self_uri"]
        refused = face.http.post("/compute/job/one", json={"executable": "true"})
        assert (refused.status_code, refused.json()["status"]) == (503, 503)
        tree.rmdir()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with gateway.http() as http:
                http.get("/status/systems")
            found = face.http.get("/status/incidents", params={"type": "unplanned", "resource_id": face.named("two")})
            if found.json():
                break
        [outage] = found.json()
        assert (outage["status"], outage["resolution"]) == ("degraded", "unresolved")
        assert "filesystem" in outage["description"]
        assert str(tree) not in found.text
        states = {each["name"]: each["current_status"] for each in face.http.get("/status/resources").json()}
        assert (states["two"], states["two-files"]) == ("degraded", "down")
        tree.mkdir()


def test_ids_outlast_the_gateway_and_the_api_can_be_switched_off(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with in_thread(home) as gateway:
        before = Face(gateway, 1).id_of("compute")
    with in_thread(home) as gateway:
        assert Face(gateway, 2).id_of("compute") == before
    with in_thread(home, iri={"enabled": False}) as gateway:
        assert Face(gateway, 1).http.get("/facility").status_code == 404


# accounts


def test_projects_have_the_amounts_that_the_scheduler_tells(
    face: Face, gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def tell(scheduler: LocalScheduler, user: str) -> list[AllocationInfo]:
        return [
            AllocationInfo(account=user, unit="node-hours", budget=10, used=2.5),
            AllocationInfo(account=user, unit="gres/gpu-hours", budget=4, used=1),
            AllocationInfo(account=user, unit="node-hours", budget=3, used=2, user=user),
            AllocationInfo(account=user, unit="billing-hours", used=7),
            AllocationInfo(account="another", unit="node-hours", budget=1, used=0),
        ]

    monkeypatch.setattr(LocalScheduler, "allocations", tell)
    [project] = face.http.get("/account/projects").json()
    url = f"/account/projects/{project['id']}/project_allocations"
    [allocation] = face.http.get(url).json()
    [mine] = face.http.get(f"{url}/{allocation['id']}/user_allocations").json()
    unit = "urn:doe-iri:allocation:compute:{}" if face.version >= 2 else "{}"
    word = unit.format("node-hours" if face.version >= 2 else "node_hours")
    expected = [{"allocation": 10, "usage": 2.5, "unit": word}]
    if face.version >= 2:
        expected.append({"allocation": 4, "usage": 1, "unit": unit.format("gres/gpu-hours")})
    assert allocation["entries"] == expected
    assert mine["entries"] == [{"allocation": 3, "usage": 2, "unit": word}]


def test_accounts_are_projects(face: Face, gateway: RunningGateway) -> None:
    with gateway.http() as http:
        info = http.get("/status/local/userinfo").json()
    accounts, user = [each["name"] for each in info["accounts"]], info["user"]["name"]
    projects = face.http.get("/account/projects").json()
    assert [(each["id"], each["user_ids"]) for each in projects] == [(name, [user]) for name in accounts]
    project = face.http.get(f"/account/projects/{accounts[0]}").json()
    assert project == projects[0]
    url = f"/account/projects/{accounts[0]}/project_allocations"
    [allocation] = face.http.get(url).json()
    assert face.http.get(f"{url}/{allocation['id']}").json() == allocation
    [mine] = face.http.get(f"{url}/{allocation['id']}/user_allocations").json()
    assert face.http.get(f"{url}/{allocation['id']}/user_allocations/{mine['id']}").json() == mine
    assert mine["user_id"] == user
    assert face.http.get("/account/projects/nosuch").status_code == 404
    if face.version >= 2:
        assert face.http.get("/account/whoami").json() == {"username": user}


# jobs


def test_all_fields_of_a_job_reach_its_script(face: Face, workdir: Path) -> None:
    answer = face.submit(
        executable="printf", arguments=["%s|", "a b", "$HOME", "it's", "two\nlines"], launcher="env X=1",
        directory=str(workdir), name="fields", environment={"GREETING": "hello there"},
        pre_launch='#SBATCH --nodes=99999\necho "before $GREETING"', post_launch="echo after; exit 0",
        stdout_path="out", stderr_path="err",
        resources={"process_count": 1, "exclusive_node_use": False}, attributes={"duration": 600},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == {"state": "new"}
    job = face.wait(answer.json()["id"])
    assert job["status"]["state"] == "completed"
    assert (workdir / "out").read_text() == "before hello there\na b|$HOME|it's|two\nlines|after\n"
    spec = face.http.get(f"/compute/status/local/{job['id']}", params={"include_spec": "true"}).json()["job_spec"]
    assert spec["executable"] == "env"
    assert spec["arguments"] == ["X=1", "printf", "%s|", "a b", "$HOME", "it's", "two\nlines"]
    assert (spec["directory"], spec["attributes"]["duration"]) == (str(workdir), 600)


def test_a_job_ends_as_its_program_does(face: Face, workdir: Path) -> None:
    answer = face.submit(executable="/bin/sh", arguments=["-c", "exit 7"], directory=str(workdir), post_launch="true")
    status = face.wait(answer.json()["id"])["status"]
    assert (status["state"], status["exit_code"], status["meta_data"]["raw_state"]) == ("failed", 7, "FAILED")


def test_an_environment_that_is_not_inherited_and_a_script_as_executable(face: Face, workdir: Path) -> None:
    spec: dict[str, Any] = {"directory": str(workdir), "stdout_path": "own", "environment": {"MINE": "1 2"}}
    own = face.submit(executable="/bin/sh", arguments=["-c", 'echo "$MINE"'], inherit_environment=False, **spec)
    script = face.submit(executable="#!/bin/sh\necho script\n", directory=str(workdir), stdout_path="script")
    assert [face.wait(each.json()["id"])["status"]["state"] for each in (own, script)] == ["completed"] * 2
    assert (workdir / "own").read_text() == "1 2\n"
    assert (workdir / "script").read_text() == "script\n"


@pytest.mark.parametrize(
    ("spec", "status", "text"),
    [
        ({}, 422, "executable"),
        ({"executable": ""}, 400, "executable"),
        ({"executable": "true", "colour": "red"}, 400, "colour"),
        ({"executable": "true", "resources": {"node_count": 0}}, 400, "node_count"),
        ({"executable": "true", "arguments": "one"}, 400, "arguments"),
        ({"executable": "true", "attributes": {"custom_attributes": {"qos": "a\n#SBATCH --uid=0"}}}, 400, "qos"),
        ({"executable": "true", "attributes": {"custom_attributes": {"qos\nx": "1"}}}, 400, "custom attribute"),
        ({"executable": "true", "container": {"image": "x"}}, 422, "Containers"),
        ({"executable": "true", "attributes": {"queue_name": "nosuch"}}, 400, "nosuch"),
        ({"executable": "true", "directory": "relative"}, 400, "absolute"),
        ({"executable": "#!/bin/sh\n", "arguments": ["x"]}, 422, "arguments"),
        ({"executable": "true", "environment": {"A B": "x"}, "inherit_environment": False}, 400, "A B"),
        ({"executable": "a\0b"}, 400, "NUL"),
    ],
)
def test_what_a_job_cannot_have_is_refused(
    gateway: RunningGateway, spec: dict[str, Any], status: int, text: str
) -> None:
    answer = Face(gateway, 1, gateway.token()).submit(**spec)
    assert answer.status_code == status, answer.text
    assert text in answer.json()["detail"]


def test_a_submitted_job_cannot_be_changed(face: Face, workdir: Path) -> None:
    job_id = face.submit(executable="true", directory=str(workdir)).json()["id"]
    answer = face.http.put(f"/compute/job/local/{job_id}", json={"name": "other"})
    assert (answer.status_code, "cannot be changed" in answer.json()["detail"]) == (422, True)
    assert face.http.put("/compute/job/local/999999", json={}).status_code == 404


def test_a_key_submits_once(gateway: RunningGateway, workdir: Path) -> None:
    face = Face(gateway, 2, gateway.token())
    spec, key = {"executable": "true", "directory": str(workdir)}, {"Idempotency-Key": f"key-{time.time_ns()}"}
    first, second = (face.http.post("/compute/job/local", json=spec, headers=key) for _ in range(2))
    assert first.json()["id"] == second.json()["id"]
    assert [each.headers["Idempotency-Key-Reply"] for each in (first, second)] == ["miss", "hit"]
    other = face.http.post("/compute/job/local", json=spec | {"name": "other"}, headers=key)
    assert (other.status_code, "Idempotency-Key" in other.json()["detail"]) == (422, True)


def test_lists_of_jobs(face: Face, workdir: Path) -> None:
    name = f"listed-{time.time_ns()}"
    ended = face.submit(executable="true", directory=str(workdir), name=name).json()["id"]
    face.wait(ended)
    runs = face.submit(executable="sleep", arguments=["300"], directory=str(workdir), name=name).json()["id"]

    def listed(**query: Any) -> list[str]:
        answer = face.http.post("/compute/status/local", params=query, json={"name": name})
        return [each["id"] for each in answer.json()]

    assert listed() == [runs]
    assert listed(historical="true") == [ended, runs]
    assert listed(historical="true", limit=1, offset=1) == [runs]
    assert face.http.get(f"/compute/status/local/{ended}", params={"historical": "false"}).status_code == 404
    assert face.http.delete(f"/compute/cancel/local/{runs}").status_code == 204
    assert face.wait(runs)["status"]["state"] == "canceled"
    assert face.http.delete(f"/compute/cancel/local/{runs}").status_code == 204
    assert face.http.delete("/compute/cancel/local/999999").status_code == 404
    assert face.http.get("/compute/status/local/no%20job").status_code == 404


def test_an_array_is_one_job(face: Face, workdir: Path) -> None:
    attributes = {"custom_attributes": {"array": "0-2"}}
    spec = {"arguments": ["-c", "exit $SLURM_ARRAY_TASK_ID"], "directory": str(workdir), "attributes": attributes}
    job_id = face.submit(executable="/bin/sh", **spec).json()["id"]
    job = face.wait(job_id)
    assert (job["id"], job["status"]["state"]) == (job_id, "failed")


# files


def test_operations_on_files(face: Face, workdir: Path) -> None:
    def run(name: str, **fields: Any) -> Any:
        task = face.task(name, **fields)
        assert task["status"] == "completed", task
        assert task["command"]["command"] == name
        return task["result"]["output"]

    directory, text = str(workdir / "d"), str(workdir / "d" / "text")
    assert run("mkdir", path=directory)["type"] == "d"
    upload = face.http.post("/filesystem/upload/local", params={"path": text}, files={"file": b"one\ntwo\nthree\n"})
    assert face.http.get(f"/task/{upload.json()['task_id']}").json()["status"] == "completed"
    [entry] = run("ls", path=directory)
    assert (entry["name"], entry["size"], entry["link_target"]) == ("text", "14", None)
    assert run("stat", path=text)["size"] == 14
    assert run("head", path=text, lines=1)["content"] == "one\n"
    assert run("tail", path=text, lines=1, skipHeading=True)["content"] == "two\nthree\n"
    assert run("tail", path=text, bytes=6)["content"] == "three\n"
    assert run("view", path=text, size=3, offset=4)["content"] == "two"
    assert run("download", path=text) == "b25lCnR3bwp0aHJlZQo="
    expected = {"algorithm": "SHA-256", "checksum": hashlib.sha256(b"one\ntwo\nthree\n").hexdigest()}
    assert run("checksum", path=text) == expected
    assert "ASCII" in run("file", path=text)
    assert run("chmod", path=text, mode="600")["permissions"].endswith("rw-------")
    assert run("symlink", path=text, link_path=str(workdir / "link"))["link_target"] == text
    assert run("cp", path=text, target_path=f"{directory}/copy")["size"] == "14"
    run("mv", source_path=f"{directory}/copy", targetPath=f"{directory}/moved")
    words = {} if face.version == 1 else {"compression": "urn:doe-iri:compression:gzip"}
    run("compress", path=directory, target_path=str(workdir / "d.tar.gz"), **words)
    (workdir / "to").mkdir()
    run("extract", path=str(workdir / "d.tar.gz"), target_path=str(workdir / "to"), **words)
    assert (workdir / "to" / "d" / "moved").read_text() == "one\ntwo\nthree\n"
    run("rm", path=directory)
    assert not (workdir / "d").exists()
    assert {"id", "status", "command"} == face.http.get("/task").json()[-1].keys()


@pytest.mark.parametrize(
    ("name", "fields", "text"),
    [
        ("stat", {"path": "{workdir}/absent"}, "No such file or directory"),
        ("ls", {"path": "/etc"}, "does not match any of the defined filesystem paths"),
        ("download", {"path": "{workdir}/../../../../../etc/passwd"}, "does not match"),
        ("download", {"path": "{workdir}/leads-out"}, "does not match"),
        ("mkdir", {"path": "{workdir}"}, "File exists"),
        ("cp", {"path": "/etc/passwd", "target_path": "{workdir}/stolen"}, "does not match"),
        ("rm", {"path": "{served}"}, ""),
    ],
)
def test_an_operation_that_fails_says_why_in_its_task(
    face: Face, workdir: Path, name: str, fields: dict[str, str], text: str
) -> None:
    (workdir / "leads-out").symlink_to("/etc/passwd")
    places = {"workdir": str(workdir), "served": str(workdir.parent)}
    task = face.task(name, **{field: value.format(**places) for field, value in fields.items()})
    assert task["status"] == "failed"
    assert task["result"]["output"].startswith("Error: ")
    assert text in task["result"]["output"]
    assert workdir.exists()


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ls", {}),
        ("head", {"path": "/x"}),
        ("tail", {"path": "/x", "lines": 1, "bytes": 1}),
        ("tail", {"path": "/x", "lines": 0}),
        ("view", {"path": "/x", "size": 0}),
        ("mkdir", {"path": 5}),
        ("compress", {"path": "/x", "target_path": "/y", "compression": "zip"}),
    ],
)
def test_invalid_fields_are_refused_at_once(face: Face, name: str, fields: dict[str, Any]) -> None:
    answer = face.begin(name, **fields)
    assert (answer.status_code, answer.json()["type"].endswith("invalid-parameter")) == (400, True)


def test_a_file_that_is_too_large_is_refused(face: Face, workdir: Path) -> None:
    content = b"x" * (5 * 1024 * 1024 + 1)
    answer = face.http.post(
        "/filesystem/upload/local", params={"path": str(workdir / "large")}, files={"file": content}
    )
    task = answer.json().get("task_id")
    assert answer.status_code == 413 or face.http.get(f"/task/{task}").json()["status"] == "failed"
    assert not (workdir / "large").exists()
    (workdir / "large").write_bytes(content)
    assert "too large" in face.task("download", path=str(workdir / "large"))["result"]["output"]


def test_a_task_can_be_cancelled(face: Face, workdir: Path) -> None:
    with (workdir / "hole").open("wb") as hole:
        hole.truncate(1 << 40)
    begun = face.begin("checksum", path=str(workdir / "hole")).json()["task_id"]
    assert face.http.delete(f"/task/{begun}").status_code == 200
    assert face.http.get(f"/task/{begun}").json()["status"] == "canceled"
    assert face.http.delete("/task/nosuch").status_code == 404


def test_directories_of_the_caller(gateway: RunningGateway, served: Path) -> None:
    face = Face(gateway, 2, gateway.token())
    user = face.http.get("/account/whoami").json()["username"]
    [location] = face.http.get("/storage/locations/local").json()
    assert (location["logical_name"], location["path"]) == ("scratch", f"{served}/{user}")
    assert face.http.get("/storage/locations/local", params={"logicalpath": "archive"}).status_code == 404
    assert face.http.get("/storage/access-endpoints/local").json() == []


async def test_the_default_directory_is_that_of_firecrest(tmp_path: Path) -> None:
    file_systems = [
        {"path": str(tmp_path / name), "data_type": kind, "default_work_dir": kind == "users"}
        for name, kind in (("scratch", "scratch"), ("home", "users"))
    ]
    for each in file_systems:
        Path(str(each["path"])).mkdir()
    with in_thread(tmp_path / "gateway", systems={"local": {"file_systems": file_systems}}) as gateway:
        for site in (gateway_site(gateway), iri_site(gateway)):
            async with connect(site, policy=QUICK) as system:
                assert (await system.default_workdir()).startswith(f"{tmp_path}/home/")


# who may what


@VERSIONS
async def test_jobs_and_tasks_of_another_user_are_not_told(
    gateway: RunningGateway, workdir: Path, other: tuple[str, str], version: int
) -> None:
    mine, theirs = Face(gateway, version, gateway.token()), Face(gateway, version, gateway.token(other))
    job_id = mine.submit(executable="sleep", arguments=["300"], directory=str(workdir), name="mine").json()["id"]
    task = mine.begin("ls", path=str(workdir)).json()["task_id"]
    assert theirs.http.get(f"/compute/status/local/{job_id}").status_code == 404
    assert theirs.http.put(f"/compute/job/local/{job_id}", json={}).status_code == 404
    listed = theirs.http.post("/compute/status/local", params={"historical": "true"}, json={"name": "mine"})
    assert listed.json() == []
    assert theirs.http.delete(f"/compute/cancel/local/{job_id}").status_code == 403
    assert theirs.http.get(f"/task/{task}").status_code == theirs.http.delete(f"/task/{task}").status_code == 404
    assert theirs.http.get("/task").json() == []
    assert mine.http.get(f"/compute/status/local/{job_id}").json()["status"]["state"] in ("queued", "active")
    assert mine.http.get(f"/task/{task}").status_code == 200


REQUESTS = {
    "status:read": [("GET", "/account/projects"), ("GET", "/account/projects/x/project_allocations")],
    "jobs:read": [("GET", "/compute/status/local/1"), ("POST", "/compute/status/local")],
    "jobs:write": [
        ("POST", "/compute/job/local"), ("PUT", "/compute/job/local/1"), ("DELETE", "/compute/cancel/local/1")
    ],
    "files:read": [("GET", "/task"), ("GET", "/task/1"), ("{get}", "/filesystem/ls/local?path=/nowhere")],
    "files:write": [
        ("{delete}", "/filesystem/rm/local?path=/nowhere"), ("POST", "/filesystem/mkdir/local"), ("DELETE", "/task/1"),
        ("{put}", "/filesystem/chmod/local"), ("POST", "/filesystem/upload/local?path=/nowhere"),
    ],
}  # fmt: skip


@VERSIONS
@pytest.mark.parametrize("scope", sorted(REQUESTS))
def test_scopes_are_those_of_the_firecrest_endpoints(gateway: RunningGateway, version: int, scope: str) -> None:
    face = Face(gateway, version, gateway.token(scope=scope))
    for needed, requests in REQUESTS.items():
        for method, path in requests:
            method = method.strip("{}").upper() if version == 1 or "{" not in method else "POST"
            answer = face.http.request(method, path, json={} if method in ("POST", "PUT") else None)
            assert (answer.status_code == 403) == (needed != scope), (method, path, answer.text)
            if needed != scope:
                assert f'scope="{needed}"' in answer.headers["WWW-Authenticate"]


def test_rules_of_a_system_hold_for_its_resources(tmp_path: Path) -> None:
    closed = {"access": [{"users": ["somebody-else"]}]}
    with in_thread(tmp_path / "home", systems={"open": {}, "closed": closed}) as gateway:
        face = Face(gateway, 1, gateway.token())
        ids = {each["name"]: each["id"] for each in face.http.get("/status/resources").json()}
        for name, expected in (("open", 404), ("closed", 403)):
            for resource in (name, name.upper(), ids[name]):
                assert face.http.get(f"/compute/status/{resource}/1").status_code == expected
            for resource in (name, f"{name}-files", ids[f"{name}-files"]):
                answer = face.http.get(f"/filesystem/stat/{resource}", params={"path": "/nowhere"})
                assert answer.status_code == (403 if name == "closed" else 200)
        assert face.http.get(f"/filesystem/ls/{ids['open']}", params={"path": "/"}).status_code == 404


def test_a_systems_name_comes_before_that_of_anothers_files(tmp_path: Path) -> None:
    trees = {name: tmp_path / name for name in ("one", "one-files")}
    for tree in trees.values():
        tree.mkdir()
    systems = {name: {"file_systems": [{"path": str(tree)}]} for name, tree in trees.items()}
    with in_thread(tmp_path / "home", systems=systems) as gateway:
        face = Face(gateway, 2, gateway.token())
        for name, tree in trees.items():
            assert face.task("ls", resource=name, path=str(tree))["status"] == "completed"
        assert face.task("ls", resource="one-files-files", path=str(trees["one-files"]))["status"] == "completed"
        assert face.task("ls", resource="one-files", path=str(trees["one"]))["status"] == "failed"


def test_what_changes_something_is_in_the_audit_trail(gateway: RunningGateway, workdir: Path) -> None:
    face = Face(gateway, 2, gateway.token())
    job_id = face.submit(executable="true", directory=str(workdir)).json()["id"]
    face.task("rm", path=str(workdir / "gone"))
    face.task("ls", path=str(workdir))

    async def records() -> list[Any]:
        store = await Store.open(gateway.home / "private" / "gateway.db")
        try:
            return list(await AuditTrail(store).read(AuditQuery(limit=50)))
        finally:
            await store.close()

    found = [(each.action, each.system, each.target) for each in asyncio.run(records()) if "iri" in each.action]
    assert ("POST /iri/api/v2/compute/job/{resource_id}", "local", f"local {job_id}") in found
    assert ("POST /iri/api/v2/filesystem/rm/{resource_id}", "local", f"local {workdir}/gone") in found
    assert not [each for each in found if "/ls/" in each[0] and str(workdir) in each[2]]
