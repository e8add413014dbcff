"""`/task`: the caller's operations on files, and their results."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, route

from crestline.gateway.requests import CallerDependency, GatewayRequest
from crestline.gateway.routes.iri.answers import json
from crestline.gateway.routes.ready import Ready

_OPERATIONS = {"GET": "getTask", "DELETE": "deleteTask"}


@get("/task", scope="files:read", operation="getTasks")
async def get_tasks(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """The caller's tasks, without their results."""
    found = request.runtime.file_tasks.list(caller.username)
    return Ready.json(b"[%s]" % b",".join(each.show(with_result=False) for each in found))


@route("/task/{task_id:str}", http_method=["GET", "DELETE"], status_code=200, area="files", operation=_OPERATIONS)
async def handle_task(request: GatewayRequest, caller: CallerDependency) -> Response[Any]:
    """One of them with its result, or its end: what it has done to files so far stays.

    It is one handler, as the answer to OPTIONS would name the first of two methods only.
    """
    tasks, task_id = request.runtime.file_tasks, request.path_params["task_id"]
    if request.method == "DELETE":
        await tasks.cancel(caller.username, task_id)
        return json("cancelled")
    task = tasks.get(caller.username, task_id)
    task.was_read = task.has_ended
    return Ready.json(task.show())


handlers = [get_tasks, handle_task]
