"""`/filesystem`, with each operation as a task, and `/storage` of v2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from litestar import Response, get, post, route
from litestar.handlers import HTTPRouteHandler

from crestline.gateway.audit.notes import LONGEST_PATH, note_paths
from crestline.gateway.deadline import OWN_LIMITS
from crestline.gateway.iri.tasks import FileTask, TaskCommand
from crestline.gateway.requests import CallerDependency, GatewayRequest, SystemDependency
from crestline.gateway.routes.bodies import MAX_FIELDS
from crestline.gateway.routes.iri.answers import json, version_of
from crestline.gateway.routes.iri.facility import get_filesystem_resources, post_filesystem_resources
from crestline.gateway.routes.iri.file_operations import OPERATIONS, Operation
from crestline.gateway.routes.iri.reading import read_file_body, read_file_query, read_query
from crestline.gateway.routes.multipart import FORM_OVERHEAD, FileField, too_large
from crestline.model import NotFoundError
from crestline.wire.codec import encode
from crestline.wire.extensions import Scope
from crestline.wire.filesystem import PathRequest
from crestline.wire.iri import FILESYSTEM, STORAGE, URN

_SLOW_LIMIT = 6 * 3600.0
"""Maximum seconds of an operation whose duration depends on the number of bytes or files."""
_LOGICAL_NAMES = {
    "users": "home",
    "scratch": "scratch",
    "project": "project",
    "store": "project",
    "archive": "archive",
    "apps": "shared",
}
"""Names of file system types in v2."""


class LocationsQuery(msgspec.Struct, kw_only=True):
    """`GET /storage/locations/{resource}`"""

    logicalpath: Literal["home", "scratch", "project", "campaign", "archive", "shared", "temporary"] | None = None
    project: str | None = None
    allocation: str | None = None
    intent: Literal["read", "write", "staging", "long-term-storage"] | None = None


class AccessQuery(msgspec.Struct, kw_only=True):
    """`GET /storage/access-endpoints/{resource}`"""

    protocol: Literal["globus", "xrootd", "s3"] | None = None
    endpoint_id: str | None = None


def handlers(version: int) -> Sequence[HTTPRouteHandler]:
    """Return the endpoints of a version."""
    found: list[HTTPRouteHandler] = [_handler(each, version) for each in OPERATIONS]
    if version >= 2:
        return [*found, post_upload, post_filesystem_resources, get_locations, get_access_endpoints]
    return [*found, post_upload, get_filesystem_resources]


def _handler(operation: Operation, version: int) -> HTTPRouteHandler:
    method = operation.method if version == 1 else "POST"
    in_query = method in ("GET", "DELETE")
    kind = operation.fields_of(version)
    prefix = f"{URN}compression:" if version >= 2 else ""
    scope: Scope = "files:write" if operation.writes else "files:read"

    @route(
        f"/filesystem/{operation.name}/{{resource_id:str}}",
        http_method=method,  # type: ignore[arg-type]
        status_code=operation.status,
        name=f"iri-v{version}-{operation.name}",
        request_max_body_size=MAX_FIELDS,
        scope=scope,
        resource=STORAGE,
        operation=operation.name,
        query=kind if in_query else None,
        body=None if in_query else kind,
    )
    async def begin(request: GatewayRequest, system: SystemDependency, caller: CallerDependency) -> Response[Any]:
        if in_query:
            fields: PathRequest = read_file_query(request, kind)
        else:
            fields = await read_file_body(request, kind, ["compression"], prefix)
            note_paths(request.scope, fields)
        operation.check(fields)
        files, limit, runtime = system.files(caller), system.config.max_ops_file_size, request.runtime
        task = runtime.file_tasks.begin(
            caller.username,
            _command(operation.name, fields),
            lambda: operation.result(files, fields, limit),
            timeout=_SLOW_LIMIT if operation.is_slow else runtime.config.deadline,
            allow=lambda: runtime.check_again(caller, scope, system),
        )
        return _submitted(request, task)

    begin.fn.__doc__ = f"Begin a task: {operation.name}."
    return begin


@post(
    "/filesystem/upload/{resource_id:str}",
    status_code=200,
    request_max_body_size=None,
    scope="files:write",
    resource=STORAGE,
    operation="upload",
    query=PathRequest,
    opt={OWN_LIMITS: True},
)
async def post_upload(request: GatewayRequest, system: SystemDependency, caller: CallerDependency) -> Response[Any]:
    """Write a small file. Its task has ended when the response is sent."""
    fields = read_file_query(request, PathRequest)
    limit = system.config.max_ops_file_size
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit + FORM_OVERHEAD:
        raise too_large()
    field = FileField(request.headers.get("content-type", ""), request.stream(), limit)
    await field.open(is_named=False)

    async def write() -> bytes:
        await system.files(caller).write(fields.path, field.chunks())
        return encode({"output": f"{fields.path} was written."})

    task = await request.runtime.file_tasks.run(caller.username, _command("upload", fields), write)
    return _submitted(request, task)


@get(
    "/storage/locations/{resource_id:str}",
    scope="files:read",
    resource=STORAGE,
    operation="getStorageLocations",
    query=LocationsQuery,
)
async def get_locations(request: GatewayRequest, system: SystemDependency, caller: CallerDependency) -> Response[Any]:
    """Return the caller's directories: one on each file system, the default one first."""
    query = read_query(request, LocationsQuery, ("logicalpath", "intent"))
    file_systems = sorted(system.file_systems, key=lambda each: not each.default_work_dir)
    found = [
        {
            "logical_name": _LOGICAL_NAMES[each.data_type],
            "path": f"{each.path.rstrip('/')}/{caller.username}",
            "filesystem": each.path,
            "shared": each.data_type in ("apps", "project", "store"),
            "access": {"read": True, "write": True, "execute": True},
            "is_default": each.default_work_dir,
        }
        for each in file_systems
        if query.logicalpath in (None, _LOGICAL_NAMES[each.data_type])
    ]
    if query.logicalpath is not None and not found:
        raise NotFoundError(f"Unknown logical path {query.logicalpath}.", hint="Ask without logicalpath.")
    return json(found)


@get(
    "/storage/access-endpoints/{resource_id:str}",
    scope="files:read",
    resource=STORAGE,
    operation="getStorageAccessEndpoints",
    query=AccessQuery,
)
async def get_access_endpoints(
    request: GatewayRequest, system: SystemDependency, caller: CallerDependency
) -> Response[Any]:
    """Return other ways to the files, of which the gateway has none: its large transfers are at its FirecREST
    endpoints."""
    read_query(request, AccessQuery, ("protocol",))
    return json([])


def _command(name: str, fields: PathRequest) -> TaskCommand:
    arguments = {field: getattr(fields, field) for field in fields.__struct_fields__}
    shown = {
        field: value[:LONGEST_PATH] if isinstance(value, str) else value
        for field, value in arguments.items()
        if value is not None
    }
    return TaskCommand(FILESYSTEM, name, shown)


def _submitted(request: GatewayRequest, task: FileTask) -> Response[Any]:
    url = request.runtime.facility.url(version_of(request), f"/task/{task.id}")
    return Response({"task_id": task.id, "task_uri": url}, media_type="application/json")
