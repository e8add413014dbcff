"""The gateway's IRI API: what users can see and do of each other's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crestline.gateway.audit import AuditQuery, AuditTrail
from crestline.gateway.hosts.local.files import LocalFiles
from crestline.gateway.identity import Principal
from crestline.gateway.iri import tasks
from crestline.gateway.runtime import GatewayRuntime
from crestline.gateway.store import Store
from crestline.gateway.systems import SystemRuntime
from crestline.model import PermissionDeniedError
from harness.gateway import RunningGateway, in_thread
from harness.iri_api import VERSIONS, Face

pytestmark = pytest.mark.anyio


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


@VERSIONS
def test_a_task_that_lasts_asks_again_for_its_user(
    gateway: RunningGateway, workdir: Path, monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    asked = []

    async def refuse(runtime: GatewayRuntime, caller: Principal, scope: str, system: SystemRuntime) -> None:
        asked.append((caller.username, scope, system.name))
        raise PermissionDeniedError("The client of this token was removed.")

    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(tasks, "_CHECK_INTERVAL", 0.0)
    monkeypatch.setattr(GatewayRuntime, "check_again", refuse)
    monkeypatch.setattr(LocalFiles, "checksum", hang)
    monkeypatch.setattr(LocalFiles, "remove", hang)
    face = Face(gateway, version, gateway.token())
    for operation, scope in (("checksum", "files:read"), ("rm", "files:write")):
        task = face.task(operation, path=str(workdir / "f"))
        assert (task["status"], task["result"]["output"]) == ("failed", "Error: The client of this token was removed.")
        assert asked.pop()[1:] == (scope, "local")


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
