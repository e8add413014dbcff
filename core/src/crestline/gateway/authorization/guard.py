"""What each route asks for, checked before its handler runs."""

from __future__ import annotations

from typing import Any

from litestar.connection import ASGIConnection

from crestline.gateway.authorization.authorization import Authorization
from crestline.gateway.identity import Caller


def required_scope(method: str, opt: dict[str, Any]) -> str:
    """The scope that a route needs: its own `scope`, or else `area` and whether its method changes anything.

    Raises:
        KeyError: the route says neither.
    """
    own: str | None = opt.get("scope")
    return own or f"{opt['area']}:{'read' if method in ('GET', 'HEAD') else 'write'}"


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], caller: Caller) -> None:
    """Let a caller pass to the route that the request is for.

    Raises:
        PermissionDeniedError: the caller may not.
        SystemNotFoundError: there is no such system.
    """
    name = connection.path_params.get("system_name")
    system = connection.app.state.systems.get(name).name if name is not None else None
    authorization: Authorization = connection.app.state.authorization
    scope = required_scope(_method(connection), connection.route_handler.opt)
    await authorization.check(caller, scope, system)


def _method(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    return str(connection.scope.get("method", "GET"))  # a WebSocket's handshake is a GET
