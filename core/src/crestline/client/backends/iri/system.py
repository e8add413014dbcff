"""`/status` and `/storage` of the IRI API: the facility's resources as systems."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import quote

from crestline.client.backends.base import SystemEndpoints
from crestline.client.backends.iri.calls import Calls
from crestline.client.backends.transport import RetryMode
from crestline.concurrency import map_concurrently
from crestline.model import (
    Account,
    Allocation,
    ConfigError,
    CrestlineError,
    InvalidRequestError,
    Node,
    NotFoundError,
    Partition,
    Reservation,
    SystemNotFoundError,
    UnsupportedError,
)
from crestline.wire import iri

_DIRECTORIES = ("scratch", "project", "home")
_GLOBUS = "Globus Transfer"
_AT_ONCE = 8
"""projects that are asked for at the same time"""


async def fetch_resources(calls: Calls) -> list[iri.Resource]:
    """All resources of the facility."""
    await calls.find_version()
    return [each async for page in calls.pages("GET", "/status/resources", iri.Resource) for each in page]


def is_compute(resource: iri.Resource) -> bool:
    """Whether jobs run there."""
    kind = resource.resource_type
    if resource.supported_endpoints is not None:
        return iri.COMPUTE in resource.supported_endpoints
    return kind in (iri.COMPUTE, "system") or kind.startswith(f"{iri.URN}resource:compute")


def has_files(resource: iri.Resource) -> bool:
    """Whether files lie there."""
    kind = resource.resource_type
    if resource.supported_endpoints is not None:
        return iri.FILESYSTEM in resource.supported_endpoints
    return kind == "storage" or kind.startswith(f"{iri.URN}resource:storage")


def pick_compute(calls: Calls, resources: list[iri.Resource], asked: str) -> iri.Resource:
    """The compute resource that is meant.

    Raises:
        ConfigError: none is named, and there are several.
        SystemNotFoundError: the resource does not exist.
    """
    found = [each for each in resources if is_compute(each)]
    hint = f"It has: {', '.join(name_of(each) for each in found) or 'none'}."
    if not asked and len(found) == 1:
        return found[0]
    if not asked:
        raise ConfigError(f"Name one of the compute resources of {calls.url}.", hint=hint)
    for each in found:
        if asked.casefold() in (name_of(each).casefold(), each.id.casefold()):
            return each
    raise SystemNotFoundError(f"{calls.url} has no compute resource {asked!r}.", hint=hint)


def pick_files(resources: list[iri.Resource], compute: iri.Resource, asked: str | None) -> iri.Resource | None:
    """The storage resource whose files jobs of `compute` use; None: the facility serves no files.

    Raises:
        ConfigError: it has several, and none of them is named.
        SystemNotFoundError: it has not the one that is named.
    """
    found = [each for each in resources if has_files(each)]
    hint = (
        f"Set `filesystem` in the site's `options` to one of: {', '.join(name_of(each) for each in found) or 'none'}."
    )
    if asked:
        for each in found:
            if asked.casefold() in (name_of(each).casefold(), each.id.casefold()):
                return each
        raise SystemNotFoundError(f"The facility has no storage resource {asked!r}.", hint=hint)
    near = [each for each in found if each.group and each.group == compute.group] or found
    if len(near) > 1:
        near = [each for each in near if "scratch" in f"{each.name} {each.description}".lower()] or near
    if len(near) > 1:
        raise ConfigError(f"It is not known which files belong to {name_of(compute)}.", hint=hint)
    return near[0] if near else None


def name_of(resource: iri.Resource) -> str:
    """The name of a resource, or its id."""
    return resource.name or resource.id


def entry_of(resource: iri.Resource, scheduler: str, reason: str = "") -> dict[str, Any]:
    """A resource in the words of FirecREST's `/status/systems`."""
    status = (resource.current_status or "unknown").rpartition(":")[2]
    entry: dict[str, Any] = {
        "name": name_of(resource),
        "id": resource.id,
        "scheduler": {"type": scheduler},
        "fileSystems": [],
    }
    if status != "unknown":
        health: dict[str, Any] = {"serviceType": "scheduler", "healthy": status != "down"}
        if status != "up":
            health |= {"message": reason or f"the facility reports it as {status}", "degraded": status == "degraded"}
        entry["servicesHealth"] = [health]
    return entry


class System(SystemEndpoints):
    """What the API tells of one system.

    Args:
        compute: its compute resource.
        files: its storage resource.
        workdir: the directory that the site's options name.
    """

    def __init__(
        self, calls: Calls, scheduler: str, name: str, compute: str, files: str | None, workdir: str | None
    ) -> None:
        self._calls = calls
        self._scheduler = scheduler
        self._name = name
        self._compute = quote(compute, safe="")
        self._files = quote(files, safe="") if files is not None else None
        self._workdir = workdir
        self._workdir_lock = asyncio.Lock()

    async def describe(self) -> dict[str, Any]:
        response = await self._calls.request("GET", f"/status/resources/{self._compute}")
        resource = self._calls.read(response, iri.Resource)
        reason = await self._incident() if resource.current_status in ("down", "degraded") else ""
        return entry_of(resource, self._scheduler, reason)

    async def _incident(self) -> str:
        """Why the resource is down, if the facility tells."""
        try:
            params = {"resource_id": self._compute, "resolution": "unresolved"}
            response = await self._calls.request("GET", "/status/incidents", params=params, how=RetryMode.FAIL_FAST)
            found = self._calls.read(response, list[iri.Incident])
        except CrestlineError:  # 404 for an empty list
            return ""
        return next((text for each in found if (text := each.description or each.name)), "")

    async def default_workdir(self) -> str:
        async with self._workdir_lock:
            if self._workdir is None:
                self._workdir = await self._location()
            return self._workdir

    async def _location(self) -> str:
        if self._calls.version >= 2 and self._files is not None:
            found = await self._locations(self._files, None)
            named = [each for each in found if each.is_default]
            for name in _DIRECTORIES:
                named = named or [each for each in found if each.logical_name == name]
                named = named or await self._locations(self._files, name)
            if named:
                return named[0].path.rstrip("/") or "/"
        raise ConfigError(
            f"{self._name} does not report your directory.",
            hint="Name the working directory, or set `workdir` in the site's `options`.",
        )

    async def _locations(self, files: str, name: str | None) -> list[iri.StorageLocation]:
        """The user's directories, or those with a logical name."""
        try:
            response = await self._calls.request("GET", f"/storage/locations/{files}", params={"logicalpath": name})
        except (NotFoundError, UnsupportedError, InvalidRequestError):
            return []
        return self._calls.read(response, list[iri.StorageLocation])

    async def other_transfer_services(self) -> str:
        """What moves large files, as text for messages."""
        if self._calls.version < 2 or self._files is None:
            return _GLOBUS
        try:
            response = await self._calls.request(
                "GET", f"/storage/access-endpoints/{self._files}", how=RetryMode.FAIL_FAST
            )
            found = self._calls.read(response, list[iri.AccessEndpoint])
        except CrestlineError:
            return _GLOBUS
        names = [
            f"{each.protocol} ({each.display_name or ''} {each.endpoint_id or each.uri or ''})".replace("( ", "(")
            for each in found
        ]
        return " or ".join(names) or _GLOBUS

    async def accounts(self) -> list[Account]:
        # No operation of the documents returns the user's name on the system.
        return [Account(name=each.name or each.id, user="") for each in await self._projects()]

    async def _projects(self) -> list[iri.Project]:
        try:
            response = await self._calls.request("GET", "/account/projects")
        except NotFoundError as error:  # OLCF serves no `/account`
            raise UnsupportedError(
                f"{self._name} does not report accounts: {error.message}", hint="Ask the site which account to name."
            ) from None
        return self._calls.read(response, list[iri.Project])

    async def allocations(self) -> list[Allocation]:
        resource = self._calls.read(
            await self._calls.request("GET", f"/status/resources/{self._compute}"), iri.Resource
        )
        capabilities = {_last_segment(each) for each in resource.capability_uris}
        projects = await self._projects()

        async def ask(project: iri.Project) -> list[Allocation]:
            path = f"/account/projects/{quote(project.id, safe='')}/project_allocations"
            found = self._calls.read(await self._calls.request("GET", path), list[iri.ProjectAllocation])
            return [
                Allocation(account=project.name or project.id, unit=unit, budget=entry.allocation, used=entry.usage)
                for each in found
                if not capabilities or _last_segment(each.capability_uri) in capabilities
                for entry in each.entries
                # `node_hours` in v1, a URN in v2
                if (unit := entry.unit.rpartition(":")[2].replace("_", "-")).endswith("-hours")
            ]

        return [each for found in await map_concurrently(ask, projects, _AT_ONCE) for each in found]

    async def nodes(self) -> list[Node]:
        raise self._untold("nodes")

    async def partitions(self) -> list[Partition]:
        raise self._untold("partitions")

    async def reservations(self) -> list[Reservation]:
        raise self._untold("reservations")

    def _untold(self, what: str) -> UnsupportedError:
        return UnsupportedError(
            f"{self._name} does not list its {what}: the IRI API has no call for them.",
            hint="See the facility's documentation, and name them yourself.",
        )


def _last_segment(url: str) -> str:
    """The id at the end of a URL; facilities behind proxies name other hosts than their own."""
    return url.rstrip("/").rpartition("/")[2]
