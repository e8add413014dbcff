"""`/task`: the caller's operations on files, and their results."""

from __future__ import annotations

from typing import Any

from litestar import Response, delete, get

from crestline.gateway.requests import CallerDependency, GatewayRequest
from crestline.gateway.routes.iri.answers import json
from crestline.gateway.routes.preencoded import PreencodedResponse


@get("/task", scope="files:read", operation="getTasks")
async def get_tasks(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Return the caller's tasks without their results."""
    found = request.runtime.file_tasks.list(caller.username)
    return PreencodedResponse.json(b"[%s]" % b",".join(each.show(with_result=False) for each in found))


@get("/task/{task_id:str}", scope="files:read", operation="getTask")
async def get_task(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Return one task with its result."""
    task = request.runtime.file_tasks.get(caller.username, request.path_params["task_id"])
    task.was_read = task.has_ended
    return PreencodedResponse.json(task.show())


@delete("/task/{task_id:str}", scope="files:write", operation="deleteTask", status_code=200)
async def delete_task(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """Cancel a task. Changes that it has made to files remain."""
    await request.runtime.file_tasks.cancel(caller.username, request.path_params["task_id"])
    return json("cancelled")


handlers = [get_tasks, get_task, delete_task]
