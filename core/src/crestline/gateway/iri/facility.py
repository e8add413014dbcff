"""Facility, site, resources, incidents and events of the API: the gateway, its systems and their health."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from crestline.gateway.config import GatewayConfig, MaintenanceConfig
from crestline.gateway.health import Health
from crestline.gateway.systems import SystemRegistry, SystemRuntime
from crestline.model import SystemNotFoundError
from crestline.wire.iri import COMPUTE, FILESYSTEM, STORAGE, URN
from crestline.wire.status import ServiceHealth

PREFIX = "/iri/api"
"""Prefix of the paths of all versions."""
VERSIONS = (1, 2)
_FILES_SUFFIX = "-files"
_UP, _DOWN, _DEGRADED, _UNKNOWN = "up", "down", "degraded", "unknown"


def api_version(path: str) -> int:
    """Return the version in a request's path; 0 if the path is not one of this API."""
    return next((version for version in VERSIONS if path.startswith(f"{PREFIX}/v{version}/")), 0)


@dataclass(frozen=True)
class Resource:
    """One half of a system: its jobs (`compute`) or its files (`storage`)."""

    system: SystemRuntime
    kind: str
    id: str

    @property
    def name(self) -> str:
        """The system's name, with a suffix for its files."""
        return self.system.name if self.kind == COMPUTE else f"{self.system.name}{_FILES_SUFFIX}"


@dataclass(frozen=True)
class Incident:
    """An unhealthy system, or a maintenance."""

    id: str
    event_id: str
    system: SystemRuntime
    name: str
    description: str
    status: str
    start: datetime
    end: datetime | None
    type: str
    resolution: str


class Facility:
    """The public view of one gateway: names and states, without details of the machines.

    Args:
        identifier: UUID of the gateway's state directory, which gateways on one database share. Ids are derived from
            it.
    """

    def __init__(
        self,
        identifier: str,
        config: Callable[[], GatewayConfig],
        systems: SystemRegistry,
        health: Health,
        public_url: Callable[[], str],
    ) -> None:
        self._namespace = uuid.UUID(identifier)
        self._config = config
        self._systems = systems
        self._health = health
        self._public_url = public_url
        self._since = datetime.now(UTC)

    # Ids

    def id_of(self, *parts: str) -> str:
        """Return the id for these words, which stays the same as long as the gateway's state directory exists."""
        return str(uuid.uuid5(self._namespace, "/".join(parts)))

    def resources(self) -> Iterator[Resource]:
        """Yield two resources for each system."""
        for system in self._systems:
            for kind in (COMPUTE, STORAGE):
                yield Resource(system, kind, self.id_of(kind, system.name.lower()))

    def find(self, name: str, kind: str | None = None) -> Resource:
        """Return the resource with this id or name.

        Args:
            name: id or name.
            kind: required kind; a system's own name stands for either.

        Raises:
            SystemNotFoundError: unknown resource.
        """
        wanted = name.lower()
        found = [each for each in self.resources() if kind in (None, each.kind)]
        # By the id, then the system's name, then the resource's own, which may be the name of another system.
        ranked = [(each.id, each.system.name.lower() if kind else "", each.name.lower()) for each in found]
        for rank in range(3):
            for each, names in zip(found, ranked, strict=True):
                if wanted and names[rank] == wanted:
                    return each
        raise SystemNotFoundError(
            "Resource not found", hint="GET /status/resources lists the resources with their ids."
        )

    # Representations

    def url(self, version: int, path: str) -> str:
        """Return the absolute URL of `path`."""
        return f"{self._public_url()}{PREFIX}/v{version}{path}"

    def _links(self, version: int, url: str) -> dict[str, Any]:
        """Return the fields that clients of v2 require in these objects."""
        return {"_links": {"self": {"href": url}}} if version >= 2 else {}

    @property
    def _site_id(self) -> str:
        return self.id_of("site")

    def facility(self, version: int) -> dict[str, Any]:
        settings, url = self._config().iri, self.url(version, "/facility")
        return {
            "id": self.id_of("facility"),
            "name": settings.name,
            "short_name": settings.short_name,
            "description": settings.description,
            "organization_name": settings.organization,
            "support_uri": settings.support_url,
            "last_modified": _text(self._since),
            "self_uri": url,
            "site_uris": [self.url(version, f"/facility/sites/{self._site_id}")],
        } | self._links(version, url)

    def site(self, version: int) -> dict[str, Any]:
        """Return the one site of the gateway."""
        settings, url = self._config().iri, self.url(version, f"/facility/sites/{self._site_id}")
        return {
            "id": self._site_id,
            "name": settings.name,
            "short_name": settings.short_name,
            "description": settings.description,
            "operating_organization": settings.organization or settings.name,
            "last_modified": _text(self._since),
            "self_uri": url,
            "resource_uris": [self.url(version, f"/status/resources/{each.id}") for each in self.resources()],
        } | self._links(version, url)

    def resource(self, version: int, resource: Resource) -> dict[str, Any]:
        url = self.url(version, f"/status/resources/{resource.id}")
        computes = resource.kind == COMPUTE
        kind: str = resource.kind
        if version >= 2:
            kind = f"{URN}resource:compute:system" if computes else f"{URN}resource:storage:filesystem"
        capabilities = [self.url(version, f"/account/capabilities/{self.capability_id(resource)}")] if computes else []
        checked = self._health.checked.get(resource.system.name, self._since)
        return {
            "id": resource.id,
            "name": resource.name,
            "description": f"Jobs of {resource.system.name}" if computes else f"Files of {resource.system.name}",
            "group": resource.system.name,
            "current_status": self.status(resource),
            "resource_type": kind,
            "supported_endpoints": [COMPUTE if computes else FILESYSTEM],
            "last_modified": _text(checked),
            "self_uri": url,
            "site_uri": self.url(version, f"/facility/sites/{self._site_id}"),
            "capability_uris": capabilities,
        } | self._links(version, url)

    def capability_id(self, resource: Resource) -> str:
        """Return the id of the unit of allocations of a resource."""
        return self.id_of("capability", resource.system.name.lower())

    def capabilities(self, version: int) -> list[dict[str, Any]]:
        """Return the units of allocations: node hours of each system."""
        found = []
        for each in self.resources():
            if each.kind != COMPUTE:
                continue
            key = self.capability_id(each)
            url = self.url(version, f"/account/capabilities/{key}")
            entry = {
                "id": key,
                "name": each.name,
                "description": f"Node hours of {each.name}",
                "last_modified": _text(self._since),
                "units": [f"{URN}allocation:compute:node-hours" if version >= 2 else "node_hours"],
                "self_uri": url,
            }
            found.append(entry | self._links(version, url))
        return found

    # Health

    def status(self, resource: Resource) -> str:
        """Return one of the API's four states."""
        if any(_is_now(each) for each in self._maintenances(resource.system)):
            return _DOWN
        probes = self._health.services.get(resource.system.name)
        if not probes:
            return _UNKNOWN
        essential = "scheduler" if resource.kind == COMPUTE else "filesystem"
        if all(each.healthy for each in probes):
            return _UP
        of_it = [each for each in probes if each.service_type == essential]
        if not any(each.healthy for each in of_it) or _is_unreachable(probes):
            return _DOWN
        return _DEGRADED

    def incidents(self) -> list[Incident]:
        """Return the current problems and the announced maintenances."""
        found = []
        for system in self._systems:
            for maintenance in self._maintenances(system):
                start = maintenance.start or self._since
                resolution = "unresolved" if _is_now(maintenance) else "pending"
                if maintenance.end is None or maintenance.end > datetime.now(UTC):
                    found.append(
                        self._incident(
                            system, "maintenance", "Maintenance", maintenance.message, _DOWN, start, maintenance.end,
                            "planned", resolution,
                        )
                    )  # fmt: skip
            failing = [each for each in self._health.services.get(system.name, ()) if not each.healthy]
            since = self._health.failing_since.get(system.name)
            if failing and since is not None:
                services = sorted({each.service_type for each in failing})
                status = _DOWN if "scheduler" in services or "ssh" in services else _DEGRADED
                text = f"Services of {system.name} that do not respond: {', '.join(services)}."
                found.append(
                    self._incident(
                        system, "health", "Outage", text, status, since, None, "unplanned", "unresolved"
                    )
                )  # fmt: skip
        return found

    def _incident(
        self,
        system: SystemRuntime,
        cause: str,
        name: str,
        description: str,
        status: str,
        start: datetime,
        end: datetime | None,
        kind: str,
        resolution: str,
    ) -> Incident:
        words = (system.name.lower(), cause, start.isoformat())
        return Incident(
            id=self.id_of("incident", *words),
            event_id=self.id_of("event", *words),
            system=system,
            name=f"{name} of {system.name}",
            description=description,
            status=status,
            start=start,
            end=end,
            type=kind,
            resolution=resolution,
        )

    def _maintenances(self, system: SystemRuntime) -> list[MaintenanceConfig]:
        return [each for each in (self._config().maintenance, system.config.maintenance) if each is not None]

    def resource_ids(self, system: SystemRuntime) -> list[str]:
        return [each.id for each in self.resources() if each.system is system]

    def incident(self, version: int, incident: Incident) -> dict[str, Any]:
        url = self.url(version, f"/status/incidents/{incident.id}")
        return {
            "id": incident.id,
            "name": incident.name,
            "description": incident.description,
            "status": incident.status,
            "start": _text(incident.start),
            "end": _text(incident.end) if incident.end else None,
            "type": incident.type,
            "resolution": incident.resolution,
            "last_modified": _text(incident.start),
            "self_uri": url,
            "event_uris": [self.url(version, f"/status/events/{incident.event_id}")],
            "resource_uris": [
                self.url(version, f"/status/resources/{each}") for each in self.resource_ids(incident.system)
            ],
        } | self._links(version, url)

    def event(self, version: int, incident: Incident) -> dict[str, Any]:
        url = self.url(version, f"/status/events/{incident.event_id}")
        [resource, *_] = self.resource_ids(incident.system)
        return {
            "id": incident.event_id,
            "name": incident.name,
            "description": incident.description,
            "status": incident.status,
            "occurred_at": _text(incident.start),
            "last_modified": _text(incident.start),
            "self_uri": url,
            "resource_uri": self.url(version, f"/status/resources/{resource}"),
            "incident_uri": self.url(version, f"/status/incidents/{incident.id}"),
        } | self._links(version, url)


def _is_unreachable(probes: list[ServiceHealth]) -> bool:
    return any(each.service_type == "ssh" and not each.healthy for each in probes)


def _is_now(maintenance: MaintenanceConfig) -> bool:
    now = datetime.now(UTC)
    return (maintenance.start is None or maintenance.start <= now) and (
        maintenance.end is None or now < maintenance.end
    )


def _text(when: datetime) -> str:
    return when.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
