"""The two applications of a stand-in: FirecREST itself, and the other services of the site (identity provider and S3).

They have separate ports, since they run on separate hosts in real sites: an outage of FirecREST does not affect the
others.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from crestline.testing.firecrest import compute, files, status, transfers
from crestline.testing.firecrest.endpoint import plain_error
from crestline.testing.firecrest.fault_layer import FaultLayer
from crestline.testing.firecrest.refusals import BrokenConnection
from crestline.testing.firecrest.state import FacilityState


def gateway(facility: FacilityState, control: list[Route]) -> ASGIApp:
    """Return the FirecREST v2 application. Its paths are case-insensitive."""
    routes = [
        *status.routes(facility),
        *compute.routes(facility),
        *files.routes(facility),
        *transfers.routes(facility),
        *control,
    ]
    app = Starlette(routes=routes, exception_handlers={HTTPException: _unmatched, BrokenConnection: _broken})
    return FaultLayer(_LowerCase(app), facility)


def neighbours(facility: FacilityState, control: list[Route]) -> ASGIApp:
    """Return the application with `/token`, `/jwks` and the object store's `/s3/...`."""
    return FaultLayer(Starlette(routes=[*facility.issuer.routes(), *facility.store.routes(), *control]), facility)


class _LowerCase:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if "path" in scope:
            scope = {**scope, "path": scope["path"].lower(), "raw_path": scope["path"].lower().encode()}
        await self._app(scope, receive, send)


async def _unmatched(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return plain_error(error.status_code, error.detail)


async def _broken(request: Request, error: Exception) -> Response:
    request.state.drop()
    return Response(status_code=500)  # never sent
