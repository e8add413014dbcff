"""`/status`: systems, nodes, partitions, reservations, user, liveness. Shapes as recorded (shapes/)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crestline.testing.firecrest.endpoint import Call, route, uptime
from crestline.testing.firecrest.refusals import Refusal
from crestline.testing.firecrest.state import FacilityState

SHAPES = Path(__file__).with_name("shapes")


def routes(facility: FacilityState) -> list[Route]:
    """Return the routes of these endpoints."""
    return [
        route(facility, "/status/systems", systems),
        route(facility, "/status/liveness/", liveness, public=True),
        route(facility, "/status/{system}/nodes", nodes),
        route(facility, "/status/{system}/partitions", partitions),
        route(facility, "/status/{system}/reservations", reservations),
        route(facility, "/status/{system}/userinfo", userinfo),
    ]


def systems(call: Call) -> Response:
    """Return the only system, with its health, mounts and limits. FirecREST mixes camelCase and snake_case here."""
    settings, red = call.facility.settings, call.facility.faults.unhealthy
    shape = recorded("systems")["systems"][0]
    shape["name"] = settings.system
    shape["fileSystems"] = [
        {"path": str(settings.home), "dataType": "users", "defaultWorkDir": True},
        {"path": str(settings.scratch), "dataType": "scratch", "defaultWorkDir": False},
    ]
    shape["lastHealthCheck"] = _now()
    filesystem_paths = [str(mount) for mount in settings.mounts]
    for health in shape["servicesHealth"]:
        health["lastChecked"] = _now()
        health["healthy"] = health["serviceType"] != red and (red != "ssh" or health["serviceType"] == "s3")
        if not health["healthy"]:
            health["message"] = "The service did not answer in time"
        if health["serviceType"] == "filesystem":
            health["path"] = filesystem_paths.pop(0)
    operation = shape["dataOperation"]
    operation["max_ops_file_size"] = settings.max_ops_file_size
    operation["datatransfer_jobs_directives"] = list(settings.transfer_directives)
    operation["data_transfer"]["multipart"]["max_part_size"] = settings.max_part_size
    if settings.data_transfer != "s3":
        kind = settings.data_transfer
        operation["data_transfer"] = recorded("data_transfer")[kind] if kind is not None else None
    return JSONResponse({"systems": [shape]})


def nodes(call: Call) -> Response:
    """List the nodes with their allocated CPUs."""
    settings = call.facility.settings
    shape = recorded("nodes")["nodes"][0]
    running = [job for job in call.facility.scheduler.all() if job.process is not None and job.partition == "debug"]
    found = []
    for index in range(settings.nodes):
        name, cpus = f"n{index + 1:02d}", settings.cpus_per_node
        used = min(cpus, sum(job.cpus for job in running if job.node == name))
        state = "IDLE" if not used else "ALLOCATED" if used == cpus else "MIXED"
        partitions = ["debug", "xfer"] if index == settings.nodes - 1 else ["debug"]
        found.append(
            shape
            | {"name": name, "state": [state], "partitions": partitions, "allocCpus": used, "idleCpus": cpus - used}
            | dict.fromkeys(("sockets", "cores", "threads", "cpus"), cpus)
        )
    return JSONResponse({"nodes": found})


def partitions(call: Call) -> Response:
    """List the two partitions. The field named `partition` contains the state."""
    settings = call.facility.settings
    sizes = {"debug": settings.nodes, "xfer": 1}
    found = recorded("partitions")["partitions"]
    for partition in found:
        partition["totalNodes"] = sizes[partition["name"]]
        partition["cpus"] = sizes[partition["name"]] * settings.cpus_per_node
    return JSONResponse({"partitions": found})


def reservations(call: Call) -> Response:
    """Return an empty list."""
    return JSONResponse(recorded("reservations"))


def userinfo(call: Call) -> Response:
    """Return user, groups and accounts. Since 2.6, the primary group is a flag in the list."""
    user = call.user
    if not user.has_ssh_key:
        raise Refusal(500, f"No SSH credentials found for user:{user.name}")
    itself = {"id": str(user.uid), "name": user.name}
    accounts = [{"name": user.account, "default": True}]
    if call.facility.settings.userinfo_has_group:
        return JSONResponse({"user": itself, "group": itself, "groups": [itself], "accounts": accounts})
    return JSONResponse({"user": itself, "groups": [itself | {"default": True}], "accounts": accounts})


def liveness(call: Call) -> Response:
    """Return the time of the last health checks. Requires no token."""
    return JSONResponse(
        {"healthcheckRuns": {call.facility.settings.system: _now()}, "lastUpdate": int(uptime(call.facility)) % 30}
    )


def recorded(name: str) -> Any:
    """Load a recorded response from its file."""
    return json.loads((SHAPES / f"{name}.json").read_text(encoding="utf-8"))


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
