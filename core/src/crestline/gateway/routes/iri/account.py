"""`/account`: capabilities, the accounts that the caller can charge as projects, and the caller's identity."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from litestar import Response, get

from crestline.gateway.identity import Principal
from crestline.gateway.iri.facility import Facility
from crestline.gateway.requests import CallerDependency, GatewayRequest, admit
from crestline.gateway.routes.iri.answers import json, page, version_of
from crestline.gateway.routes.iri.facility import Limit, ModifiedQuery, NoQuery, is_new
from crestline.gateway.routes.iri.reading import read_query
from crestline.gateway.systems import SystemRuntime
from crestline.model import CrestlineError, NotFoundError, UnsupportedError
from crestline.wire.iri import URN, NonEmpty

_SCOPE = "status:read"
_ALLOCATIONS = "/account/projects/{project_id:str}/project_allocations"
_PARTS = f"{_ALLOCATIONS}/{{project_allocation_id:str}}/user_allocations"


class CapabilitiesQuery(ModifiedQuery):
    """`GET /account/capabilities`"""

    name: NonEmpty | None = None
    offset: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    limit: Limit = 100


@get("/account/capabilities", public=True, operation="getCapabilities", query=CapabilitiesQuery)
async def get_capabilities(request: GatewayRequest) -> Response[Any]:
    """Return the units of allocations."""
    query = read_query(request, CapabilitiesQuery)
    found = [
        each
        for each in request.runtime.facility.capabilities(version_of(request))
        if query.name in (None, each["name"]) and is_new(each, query)
    ]
    return json(page(found, query.offset, query.limit))


@get("/account/capabilities/{capability_id:str}", public=True, operation="getCapability", query=ModifiedQuery)
async def get_capability(request: GatewayRequest) -> Response[Any]:
    """Return one capability."""
    read_query(request, ModifiedQuery)
    for each in request.runtime.facility.capabilities(version_of(request)):
        if each["id"] == request.path_params["capability_id"]:
            return json(each)
    raise NotFoundError("Capability not found", hint="Take an id of the list.")


@get("/account/projects", scope=_SCOPE, operation="getProjects")
async def get_projects(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Return the accounts that the caller can charge on any system."""
    read_query(request, NoQuery)
    accounts = await _accounts(request, caller)
    return json([_project(request, caller, name) for name in accounts])


@get("/account/projects/{project_id:str}", scope=_SCOPE, operation="getProject")
async def get_project(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Return one account as a project."""
    read_query(request, NoQuery)
    name, _ = await _asked(request, caller)
    return json(_project(request, caller, name))


@get(_ALLOCATIONS, scope=_SCOPE, operation="getProjectAllocationsByProject")
async def get_project_allocations(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Return an allocation for each system that has the account, with the amounts that its scheduler reports."""
    read_query(request, NoQuery)
    name, systems = await _asked(request, caller)
    return json(list(await asyncio.gather(*(_allocation(request, caller, name, each) for each in systems))))


@get(f"{_ALLOCATIONS}/{{project_allocation_id:str}}", scope=_SCOPE, operation="getProjectAllocationByProject")
async def get_project_allocation(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Return one allocation."""
    read_query(request, NoQuery)
    name, system = await _asked_allocation(request, caller)
    return json(await _allocation(request, caller, name, system))


@get(_PARTS, scope=_SCOPE, operation="getUserAllocationsByProjectAllocation")
async def get_user_allocations(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Return the caller's share of an allocation."""
    read_query(request, NoQuery)
    name, system = await _asked_allocation(request, caller)
    return json([await _user_allocation(request, caller, name, system)])


@get(f"{_PARTS}/{{user_allocation_id:str}}", scope=_SCOPE, operation="getUserAllocationByProjectAllocation")
async def get_user_allocation(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Return the caller's share by its id."""
    read_query(request, NoQuery)
    name, system = await _asked_allocation(request, caller)
    found = await _user_allocation(request, caller, name, system)
    if found["id"] != request.path_params["user_allocation_id"]:
        raise NotFoundError("User allocation not found", hint="Take an id of the list.")
    return json(found)


@get("/account/whoami", scope=_SCOPE, operation="whoami")
async def get_whoami(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Return the POSIX user of the caller on the systems."""
    read_query(request, NoQuery)
    return json({"username": caller.username})


async def _accounts(request: GatewayRequest, caller: Principal) -> dict[str, list[SystemRuntime]]:
    """Return the accounts with the systems where the caller can charge them, without systems that refuse the caller.

    Raises:
        CrestlineError: all systems failed.
    """
    runtime = request.runtime
    systems = list(runtime.systems)

    async def ask(system: SystemRuntime) -> Sequence[str] | CrestlineError:
        try:
            await runtime.authorization.check(caller, _SCOPE, system.name)
            await admit(runtime, system, caller)
            return [each.name for each in await system.scheduler.accounts(caller.username)]
        except CrestlineError as error:
            return error

    answers = await asyncio.gather(*map(ask, systems))
    errors = [each for each in answers if isinstance(each, CrestlineError)]
    if errors and len(errors) == len(answers) and all(each.status >= 500 for each in errors):
        raise errors[0]
    found: dict[str, list[SystemRuntime]] = {}
    for system, names in zip(systems, answers, strict=True):
        if not isinstance(names, CrestlineError):
            for name in names:
                found.setdefault(name, []).append(system)
    return found


async def _asked(request: GatewayRequest, caller: Principal) -> tuple[str, list[SystemRuntime]]:
    name = request.path_params["project_id"]
    systems = (await _accounts(request, caller)).get(name)
    if systems is None:
        raise NotFoundError("Project not found", hint="GET /account/projects lists yours.")
    return name, systems


async def _asked_allocation(request: GatewayRequest, caller: Principal) -> tuple[str, SystemRuntime]:
    name, systems = await _asked(request, caller)
    for each in systems:
        if _allocation_id(request.runtime.facility, name, each) == request.path_params["project_allocation_id"]:
            return name, each
    raise NotFoundError("Project allocation not found", hint="Take an id of the list.")


def _project(request: GatewayRequest, caller: Principal, name: str) -> dict[str, Any]:
    version, facility = version_of(request), request.runtime.facility
    url = facility.url(version, f"/account/projects/{_quoted(name)}")
    return {
        "id": name,
        "name": name,
        "description": f"Account {name}",
        "user_ids": [caller.username],
        "last_modified": facility.facility(version)["last_modified"],
        "self_uri": url,
    }


def _allocation_id(facility: Facility, name: str, system: SystemRuntime) -> str:
    return facility.id_of("allocation", system.name.lower(), name)


async def _entries(
    request: GatewayRequest, caller: Principal, name: str, system: SystemRuntime, user: str | None
) -> list[dict[str, Any]]:
    """Return the amounts of an account, or of the share of `user`. v1 has only node hours as a unit for jobs."""
    try:
        told = await system.scheduler.allocations(caller.username)
    except UnsupportedError:  # an allocation without amounts is valid
        return []
    version = version_of(request)
    return [
        {
            "allocation": each.budget,
            "usage": each.used or 0.0,
            "unit": f"{URN}allocation:compute:{quote(each.unit)}" if version >= 2 else "node_hours",
        }
        for each in told
        if (each.account, each.user) == (name, user)
        and each.budget is not None
        and (version >= 2 or each.unit == "node-hours")
    ]


async def _allocation(request: GatewayRequest, caller: Principal, name: str, system: SystemRuntime) -> dict[str, Any]:
    version, facility = version_of(request), request.runtime.facility
    capability = facility.id_of("capability", system.name.lower())
    return {
        "id": _allocation_id(facility, name, system),
        "entries": await _entries(request, caller, name, system, None),
        "project_uri": facility.url(version, f"/account/projects/{_quoted(name)}"),
        "capability_uri": facility.url(version, f"/account/capabilities/{capability}"),
    }


async def _user_allocation(
    request: GatewayRequest, caller: Principal, name: str, system: SystemRuntime
) -> dict[str, Any]:
    version, facility = version_of(request), request.runtime.facility
    allocation = _allocation_id(facility, name, system)
    path = f"/account/projects/{_quoted(name)}/project_allocations/{allocation}"
    return {
        "id": facility.id_of("user-allocation", system.name.lower(), name, caller.username),
        "user_id": caller.username,
        "entries": await _entries(request, caller, name, system, caller.username),
        "project_allocation_uri": facility.url(version, path),
    }


def _quoted(name: str) -> str:
    return quote(name, safe="")


handlers = [
    get_capabilities,
    get_capability,
    get_projects,
    get_project,
    get_project_allocations,
    get_project_allocation,
    get_user_allocations,
    get_user_allocation,
]
newer_handlers = [get_whoami]
