"""HTTP endpoints that control a stand-in running as a separate process.

They are not part of FirecREST, and their paths begin with `/_`.


GET/POST/DELETE /_faults    read, set by name, reset
GET/DELETE      /_requests  list the received requests; clear the list
POST /_down {"seconds": 5}  refuse connections, without `seconds` until `/_up` (on the port of the other services)
POST /_jobs/{id}/requeue | end {"state", "exit_code"} | show_as {"state"} | hold {"held"} | age {"seconds"}
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crestline.testing.firecrest.state import FacilityState

_SOON = 0.1


def routes(facility: FacilityState, down: Callable[[float | None], None], up: Callable[[], None]) -> list[Route]:
    """Return the routes of these endpoints, for both ports."""

    async def faults(request: Request) -> Response:
        if request.method == "POST":
            try:
                facility.faults.update(await _body(request))
            except ValueError as error:
                return JSONResponse({"error": str(error)}, 400)
        elif request.method == "DELETE":
            facility.faults.reset()
        return JSONResponse(facility.faults.as_dict())

    async def requests(request: Request) -> Response:
        if request.method == "DELETE":
            facility.requests.clear()
        return JSONResponse([seen._asdict() for seen in facility.requests])

    async def outage(request: Request) -> Response:
        asked = await _body(request)
        threading.Timer(_SOON, down, [asked.get("seconds")]).start()
        return JSONResponse({})

    async def end_outage(request: Request) -> Response:
        threading.Timer(_SOON, up).start()
        return JSONResponse({})

    async def job(request: Request) -> Response:
        actions: dict[str, Callable[..., None]] = {
            "requeue": facility.scheduler.requeue,
            "end": facility.scheduler.end,
            "show_as": facility.scheduler.show_as,
            "hold": facility.scheduler.hold,
            "age": facility.scheduler.age,
        }
        try:
            actions[request.path_params["action"]](request.path_params["job_id"], **await _body(request))
        except (KeyError, TypeError, ValueError) as error:
            return JSONResponse({"error": repr(error)}, 400)
        return JSONResponse({})

    return [
        Route("/_faults", faults, methods=["GET", "POST", "DELETE"]),
        Route("/_requests", requests, methods=["GET", "DELETE"]),
        Route("/_down", outage, methods=["POST"]),
        Route("/_up", end_outage, methods=["POST"]),
        Route("/_jobs/{job_id}/{action}", job, methods=["POST"]),
    ]


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    return dict(json.loads(raw)) if raw else {}
