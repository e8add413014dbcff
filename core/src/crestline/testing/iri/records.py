"""Records that the facility reports: sites, resources, incidents, capabilities, projects and allocations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SINCE = "2026-01-01T00:00:00Z"
ELSEWHERE = "http://elsewhere.invalid"
"""Host of all links. Clients that follow a link fail."""


def sites(facility: Any, version: int) -> list[dict[str, Any]]:
    """Return the only site."""
    return [_entry("1", f"{ELSEWHERE}/sites/1", name="Here", operating_organization="The Lab", resource_uris=[])]


def resources(facility: Any, version: int) -> list[dict[str, Any]]:
    """Return a compute resource and a storage resource."""

    def entry(key: str, name: str, kind: str, endpoints: list[str]) -> dict[str, Any]:
        return _entry(
            key, f"{ELSEWHERE}/resources/{key}", name=name, description="", group="pearl",
            current_status=facility.status, resource_type=kind, supported_endpoints=endpoints,
            site_uri=f"{ELSEWHERE}/sites/1", capability_uris=[f"{ELSEWHERE}/capabilities/{name}"],
        )  # fmt: skip

    compute, storage = (
        ("urn:doe-iri:resource:compute:system", "urn:doe-iri:resource:storage:filesystem")
        if version >= 2
        else ("compute", "storage")
    )
    files = ["filesystem"] if facility.deviations.has_filesystem else []
    return [
        entry(facility.compute, "Pearl", compute, ["compute"]),
        entry(facility.storage, "Scratch", storage, files),
    ]


def incidents(facility: Any, version: int) -> list[dict[str, Any]]:
    """Return one incident while the facility is not up."""
    if facility.status == "up":
        return []
    return [
        _entry(
            "1",
            f"{ELSEWHERE}/incidents/1",
            name="cooling",
            description="The cooling has failed.",
            status=facility.status,
            start=SINCE,
            type="unplanned",
            resolution="unresolved",
            event_uris=[f"{ELSEWHERE}/events/1"],
            resource_uris=[f"{ELSEWHERE}/resources/{facility.compute}"],
        )
    ]


def events(facility: Any, version: int) -> list[dict[str, Any]]:
    """Return the begin event of each incident."""
    return [
        _entry(
            each["id"],
            each["event_uris"][0],
            name=each["name"],
            occurred_at=each["start"],
            status=each["status"],
            resource_uri=each["resource_uris"][0],
            incident_uri=each["self_uri"],
        )
        for each in incidents(facility, version)
    ]


def capabilities(facility: Any, version: int) -> list[dict[str, Any]]:
    """Return one capability for each resource."""
    return [
        _entry(name, f"{ELSEWHERE}/capabilities/{name}", name=name, units=[_unit(version, kind, unit)])
        for name, kind, unit in (("Pearl", "compute", "node_hours"), ("Scratch", "storage", "bytes"))
    ]


def projects(facility: Any, version: int) -> list[dict[str, Any]]:
    """Return a project with allocations and one without."""
    return [
        _entry(f"p/{number}", f"{ELSEWHERE}/projects/{number}", name=name, description="", user_ids=["user"])
        for number, name in enumerate(("climate", "empty"))
    ]


def project_allocations(facility: Any, version: int) -> list[dict[str, Any]]:
    """Return the allocations of the first project."""

    def allocation(key: str, capability: str, amount: float, usage: float, kind: str, unit: str) -> dict[str, Any]:
        return {
            "id": key,
            "entries": [{"allocation": amount, "usage": usage, "unit": _unit(version, kind, unit)}],
            "project_uri": f"{ELSEWHERE}/projects/0",
            "capability_uri": f"{ELSEWHERE}/v{version}/capabilities/{capability}/",
        }

    return [
        allocation("1", "Pearl", 1000.0, 250.5, "compute", "node_hours"),
        allocation("2", "Pearl", 1e12, 5.0, "storage", "bytes"),
        allocation("3", "Another", 7.0, 0.0, "compute", "node_hours"),
    ]


def user_allocations(facility: Any, version: int) -> list[dict[str, Any]]:
    """Return the user's share of the first project's first allocation, which is all of it."""
    return [
        {
            "id": each["id"],
            "user_id": "user",
            "entries": each["entries"],
            "project_allocation_uri": f"{ELSEWHERE}/allocations/{each['id']}",
        }
        for each in project_allocations(facility, version)[:1]
    ]


def with_endpoint(endpoint: str) -> Callable[[Any, int], list[dict[str, Any]]]:
    """Return a function that lists the resources with a group of endpoints."""
    return lambda facility, version: [
        each for each in resources(facility, version) if endpoint in each["supported_endpoints"]
    ]


Records = Callable[[Any, int], list[dict[str, Any]]]

LISTS: dict[str, Records] = {
    "getSites": sites,
    "getResources": resources,
    "getComputeResources": with_endpoint("compute"),
    "getFilesystemResources": with_endpoint("filesystem"),
    "getIncidents": incidents,
    "getEventsByIncident": events,
    "getCapabilities": capabilities,
    "getProjects": projects,
    "getProjectAllocationsByProject": project_allocations,
    "getUserAllocationsByProjectAllocation": user_allocations,
}
"""Operations that return a list."""
ENTRIES: dict[str, tuple[str, Records]] = {
    "getSite": ("site_id", sites),
    "getResource": ("resource_id", resources),
    "getIncident": ("incident_id", incidents),
    "getEventByIncident": ("event_id", events),
    "getCapability": ("capability_id", capabilities),
    "getProject": ("project_id", projects),
    "getProjectAllocationByProject": ("project_allocation_id", project_allocations),
    "getUserAllocationByProjectAllocation": ("user_allocation_id", user_allocations),
}
"""Operations that return one entry, each with the parameter of its id."""
MISSING_WHEN_EMPTY = ("getIncidents", "getEventsByIncident")
"""Operations that return 404 instead of an empty list."""


def _entry(key: str, uri: str, **fields: Any) -> dict[str, Any]:
    return {"id": key, "last_modified": SINCE, "self_uri": uri} | fields


def _unit(version: int, kind: str, unit: str) -> str:
    return f"urn:doe-iri:allocation:{kind}:{unit.replace('_', '-')}" if version >= 2 else unit
