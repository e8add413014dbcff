"""`/facility`, `/status` and the lists of resources: public, as in the API's document."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get, post

from crestline.gateway.iri.facility import Facility, Incident
from crestline.gateway.requests import GatewayRequest
from crestline.gateway.routes.bodies import MAX_FIELDS
from crestline.gateway.routes.iri.answers import json, page, version_of
from crestline.gateway.routes.iri.reading import read_query
from crestline.model import NotFoundError
from crestline.wire.iri import COMPUTE, URN, NonEmpty

When = Annotated[datetime, msgspec.Meta(tz=True)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Limit = Annotated[int, msgspec.Meta(ge=0, le=1000)]
Status = Literal["up", "down", "degraded", "unknown"]
_LATEST = datetime.max.replace(tzinfo=UTC)
_URN_TYPE = r"^urn:doe-iri:[A-Za-z0-9][A-Za-z0-9-]{0,31}:[!-~]+$"
_URN_UNIT = r"^urn:doe-iri:allocation:[!-~]+$"


class ModifiedQuery(msgspec.Struct, kw_only=True):
    """Query parameters of a request for one object."""

    modified_since: When | None = None


class NoQuery(msgspec.Struct, kw_only=True):
    """No parameters."""


class SitesQuery(ModifiedQuery):
    """`GET /facility/sites`"""

    name: NonEmpty | None = None
    short_name: NonEmpty | None = None
    offset: Offset = 0
    limit: Limit = 100


class _ResourcesQuery(ModifiedQuery):
    name: NonEmpty | None = None
    description: NonEmpty | None = None
    group: NonEmpty | None = None
    current_status: Status | None = None
    offset: Offset = 0
    limit: Limit = 100


class ResourcesQuery(_ResourcesQuery):
    """`GET /status/resources` of v1"""

    resource_type: Literal["website", "service", "compute", "system", "storage", "network", "unknown"] | None = None
    capability: list[Literal["node_hours", "bytes", "inodes"]] = []


class NewerResourcesQuery(_ResourcesQuery):
    """`GET /status/resources` of v2"""

    resource_type: Annotated[str, msgspec.Meta(pattern=_URN_TYPE)] | None = None
    capability: list[Annotated[str, msgspec.Meta(pattern=_URN_UNIT)]] = []


RESOURCES_QUERIES: dict[int, type[_ResourcesQuery]] = {1: ResourcesQuery, 2: NewerResourcesQuery}


class EventsQuery(ModifiedQuery, rename={"begin": "from"}):
    """`GET /status/events`"""

    name: NonEmpty | None = None
    description: NonEmpty | None = None
    status: Status | None = None
    begin: When | None = None
    to: When | None = None
    time: When | None = None
    resource_id: NonEmpty | None = None
    incident_id: NonEmpty | None = None
    offset: Offset = 0
    limit: Limit = 100


class IncidentsQuery(ModifiedQuery, rename={"begin": "from"}):
    """`GET /status/incidents`"""

    name: NonEmpty | None = None
    description: NonEmpty | None = None
    status: Status | None = None
    type: Literal["planned", "unplanned", "reservation"] | None = None
    begin: When | None = None
    to: When | None = None
    time: When | None = None
    resource_id: NonEmpty | None = None
    resolution: Literal["unresolved", "cancelled", "completed", "extended", "pending"] | None = None
    offset: Offset = 0
    limit: Limit = 100


@get("/facility", public=True, operation="getFacility", query=ModifiedQuery)
async def get_facility(request: GatewayRequest) -> Response[Any]:
    """Return the facility."""
    read_query(request, ModifiedQuery)
    return json(request.runtime.facility.facility(version_of(request)))


@get("/facility/sites", public=True, operation="getSites", query=SitesQuery)
async def get_sites(request: GatewayRequest) -> Response[Any]:
    """Return the sites (exactly one)."""
    query = read_query(request, SitesQuery)
    site = request.runtime.facility.site(version_of(request))
    fits = all(wanted in (None, site[field]) for field, wanted in _named(query, "name", "short_name"))
    return json(page([site] if fits and is_new(site, query) else [], query.offset, query.limit))


@get("/facility/sites/{site_id:str}", public=True, operation="getSite", query=ModifiedQuery)
async def get_site(request: GatewayRequest) -> Response[Any]:
    """Return one site."""
    read_query(request, ModifiedQuery)
    site = request.runtime.facility.site(version_of(request))
    return json(_one([site], request.path_params["site_id"], "Site"))


@get("/status/resources", public=True, operation="getResources", query=RESOURCES_QUERIES)
async def get_resources(request: GatewayRequest) -> Response[Any]:
    """Return the resources, two for each system."""
    version = version_of(request)
    query = read_query(request, RESOURCES_QUERIES[version])
    return json(page(_resources(request, query), query.offset, query.limit))


@get("/status/resources/{resource_id:str}", public=True, operation="getResource")
async def get_resource(request: GatewayRequest) -> Response[Any]:
    """Return one resource."""
    read_query(request, NoQuery)
    facility = request.runtime.facility
    return json(facility.resource(version_of(request), facility.find(request.path_params["resource_id"])))


@get("/compute/resources", public=True, operation="getComputeResources")
async def get_compute_resources(request: GatewayRequest) -> Response[Any]:
    """Return the resources that accept jobs."""
    read_query(request, NoQuery)
    return json(_of_kind(request, is_compute=True))


@get("/filesystem/resources", public=True, operation="getFilesystemResources")
async def get_filesystem_resources(request: GatewayRequest) -> Response[Any]:
    """Return the resources that have files."""
    return json(_of_kind(request, is_compute=False))


@post(
    "/filesystem/resources",
    public=True,
    operation="getFilesystemResources",
    status_code=200,
    request_max_body_size=MAX_FIELDS,
)
async def post_filesystem_resources(request: GatewayRequest) -> Response[Any]:
    """Return the resources that have files, for v2."""
    return json(_of_kind(request, is_compute=False))


@get("/status/incidents", public=True, operation="getIncidents", query=IncidentsQuery)
async def get_incidents(request: GatewayRequest) -> Response[Any]:
    """Return current incidents and announced maintenance."""
    query = read_query(request, IncidentsQuery)
    facility = request.runtime.facility
    wanted = [
        each
        for each in facility.incidents()
        if _fits(facility, each, query)
        and query.type in (None, each.type)
        and query.resolution in (None, each.resolution)
    ]
    return _listed(request, wanted, facility.incident, query)


@get("/status/incidents/{incident_id:str}", public=True, operation="getIncident")
async def get_incident(request: GatewayRequest) -> Response[Any]:
    """Return one incident."""
    read_query(request, NoQuery)
    facility = request.runtime.facility
    found = [facility.incident(version_of(request), each) for each in facility.incidents()]
    return json(_one(found, request.path_params["incident_id"], "Incident"))


@get("/status/events", public=True, operation="getEventsByIncident", query=EventsQuery)
async def get_events(request: GatewayRequest) -> Response[Any]:
    """Return the starts of the incidents as events."""
    query = read_query(request, EventsQuery)
    facility = request.runtime.facility
    wanted = [
        each for each in facility.incidents() if _fits(facility, each, query) and query.incident_id in (None, each.id)
    ]
    return _listed(request, wanted, facility.event, query)


@get("/status/events/{event_id:str}", public=True, operation="getEventByIncident")
async def get_event(request: GatewayRequest) -> Response[Any]:
    """Return one event."""
    read_query(request, NoQuery)
    facility = request.runtime.facility
    found = [facility.event(version_of(request), each) for each in facility.incidents()]
    return json(_one(found, request.path_params["event_id"], "Event"))


def _listed(
    request: GatewayRequest,
    incidents: list[Incident],
    show: Callable[[int, Incident], dict[str, Any]],
    query: EventsQuery | IncidentsQuery,
) -> Response[Any]:
    version = version_of(request)
    return json(page([show(version, each) for each in incidents], query.offset, query.limit))


def _resources(request: GatewayRequest, query: _ResourcesQuery) -> list[dict[str, Any]]:
    facility, version = request.runtime.facility, version_of(request)
    units = {unit for each in facility.capabilities(version) for unit in each["units"]}
    wanted_units = set(getattr(query, "capability", ()))
    found = []
    for resource in facility.resources():
        entry = facility.resource(version, resource)
        fits = (
            all(wanted in (None, entry[field]) for field, wanted in _named(query, "name", "group", "current_status"))
            and (query.description or "") in entry["description"]
            and _has_type(entry["resource_type"], getattr(query, "resource_type", None))
            and (not wanted_units or (resource.kind == COMPUTE and bool(wanted_units & units)))
            and is_new(entry, query)
        )
        if fits:
            found.append(entry)
    return found


def _of_kind(request: GatewayRequest, *, is_compute: bool) -> list[dict[str, Any]]:
    facility, version = request.runtime.facility, version_of(request)
    return [facility.resource(version, each) for each in facility.resources() if (each.kind == COMPUTE) == is_compute]


def _has_type(found: str, wanted: str | None) -> bool:
    """Whether the type matches. A URN also matches types that begin with its segments."""
    if wanted is None or found == wanted:
        return True
    return wanted.startswith(URN) and found.startswith(f"{wanted}:")


def _fits(facility: Facility, incident: Incident, query: EventsQuery | IncidentsQuery) -> bool:
    end = incident.end or _LATEST
    return (
        query.name in (None, incident.name)
        and (query.description or "") in incident.description
        and query.status in (None, incident.status)
        and (query.resource_id is None or query.resource_id in facility.resource_ids(incident.system))
        and (query.begin is None or end >= query.begin)
        and (query.to is None or incident.start <= query.to)
        and (query.time is None or incident.start <= query.time <= end)
        and (query.modified_since is None or incident.start >= query.modified_since)
    )


def _named(query: Any, *names: str) -> list[tuple[str, Any]]:
    return [(name, getattr(query, name)) for name in names]


def is_new(entry: dict[str, Any], query: ModifiedQuery) -> bool:
    """Whether the entry was modified since the time in the query, if the query has one."""
    return query.modified_since is None or datetime.fromisoformat(entry["last_modified"]) >= query.modified_since


def _one(entries: list[dict[str, Any]], wanted: str, what: str) -> dict[str, Any]:
    found = next((each for each in entries if each["id"] == wanted), None)
    if found is None:
        raise NotFoundError(f"{what} not found", hint="Take an id of the list.")
    return found


handlers = [
    get_facility,
    get_sites,
    get_site,
    get_resources,
    get_resource,
    get_compute_resources,
    get_incidents,
    get_incident,
    get_events,
    get_event,
]
