"""What each route asks for, checked before its handler runs."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from crestline.gateway.authorization.authorization import Authorization
from crestline.gateway.identity import Caller


def required_scope(method: str, opt: dict[str, Any]) -> str:
    """The scope that a route needs: its own `scope`, or else `area` and whether its method changes anything.

    Raises:
        KeyError: the route says neither.
    """
    own: str | None = opt.get("scope")
    return own or f"{opt['area']}:{'read' if method in ('GET', 'HEAD') else 'write'}"


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Litestar's guard of every route. One that is open to everybody has no caller.

    Raises:
        PermissionDeniedError: the caller may not.
        SystemNotFoundError: there is no such system.
    """
    caller: Caller | None = connection.scope.get("user")
    if caller is None:
        return
    name = connection.path_params.get("system_name")
    system = connection.app.state.systems.get(name).name if name is not None else None
    authorization: Authorization = connection.app.state.authorization
    await authorization.check(caller, required_scope(_method(connection), handler.opt), system)


def _method(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return str(connection.scope.get("method", "GET"))  # a WebSocket's handshake is a GET
