"""The gateway's IRI API: the facility, its resources, incidents and projects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.wire.extensions import AllocationInfo
from harness.gateway import RunningGateway, in_thread
from harness.iri_api import VERSIONS, Face
from harness.waiting import until_blocking

pytestmark = pytest.mark.anyio


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
        unplanned = {"type": "unplanned", "resource_id": face.named("two")}
        with gateway.http() as http:
            until_blocking(
                lambda: http.get("/status/systems") and face.http.get("/status/incidents", params=unplanned).json()
            )
        found = face.http.get("/status/incidents", params=unplanned)
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
