"""How requests are read: keys in both cases, the caller from the bearer token, the system from the path."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult

from crestline.gateway.identity import Caller, caller_token
from crestline.gateway.identity.tokens import TokenVerifier
from crestline.gateway.systems import SystemRuntime, Systems
from crestline.model import AuthenticationError
from crestline.wire.codec import camelize_keys

AnyRequest = Request[Any, Any, Any]

CallerDependency = NamedDependency[Caller]
"""a handler's `caller`"""

SystemDependency = NamedDependency[SystemRuntime]
"""a handler's `system`"""


class GatewayRequest(Request[Caller, Any, Any]):
    """A request whose JSON body may use camelCase or snake_case keys."""

    async def json(self) -> Any:
        """The body with its keys in camelCase."""
        return camelize_keys(await super().json())


class BearerAuthentication(AbstractAuthenticationMiddleware):
    """Finds the caller of every route that is not marked `public`."""

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Verify the bearer token.

        Raises:
            AuthenticationError: there is none, or it cannot be used.
        """
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AuthenticationError(
                "Not authenticated", hint="Send 'Authorization: Bearer <token>' with a token of the token endpoint."
            )
        verifier: TokenVerifier = connection.app.state.verifier
        caller = await verifier.verify(token.strip())
        caller_token.set(token.strip())
        return AuthenticationResult(user=caller, auth=None)


def provide_caller(request: Request[Caller, Any, Any]) -> Caller:
    """The dependency `caller`."""
    return request.user


def provide_system(request: Request[Any, Any, Any]) -> SystemRuntime:
    """The dependency `system`, from the path parameter `system_name`.

    Raises:
        SystemNotFoundError: there is none of that name.
    """
    systems: Systems = request.app.state.systems
    return systems.get(request.path_params["system_name"])
