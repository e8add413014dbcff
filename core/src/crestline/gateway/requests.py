"""Reads requests: keys in both cases, the caller from the credential, the system from the path."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.exceptions import SerializationException, ValidationException
from litestar.middleware import AbstractAuthenticationMiddleware, AuthenticationResult
from litestar.types import ASGIApp

from crestline.gateway.audit.notes import note_paths, set_principal
from crestline.gateway.authorization import required_scope
from crestline.gateway.identity import InvalidCredentialError, Principal
from crestline.gateway.identity.users import DeniedUserError
from crestline.gateway.isolation import check_shared_user
from crestline.gateway.runtime import GatewayRuntime
from crestline.gateway.systems import SystemRuntime
from crestline.model import InvalidRequestError, TooLargeError
from crestline.wire.codec import TooManyElementsError, camelize_keys, read_message

CallerDependency = NamedDependency[Principal]
"""A handler's `caller`."""

SystemDependency = NamedDependency[SystemRuntime]
"""A handler's `system`."""


_LARGE = 64 * 1024
"""Bytes from which a body is large."""
_READERS = ThreadPoolExecutor(2, thread_name_prefix="large-bodies")


class GatewayRequest(Request[Principal, Any, Any]):
    """A request whose JSON body can have camelCase or snake_case keys."""

    @property
    def runtime(self) -> GatewayRuntime:
        """The gateway that serves it."""
        runtime: GatewayRuntime = self.app.state.runtime
        return runtime

    async def json(self) -> Any:
        """Return the body with its keys in camelCase or, if it is large, the message that its route expects.

        Large bodies are parsed in a thread, because other requests would wait for them.

        Raises:
            InvalidRequestError: its values are nested too deeply, or their number is too large.
        """
        try:
            if len(content := await self.body()) > _LARGE and (field := self.route_handler.parsed_data_field):
                loop = asyncio.get_running_loop()
                body = await loop.run_in_executor(_READERS, _read, content, field.annotation)
            else:
                body = camelize_keys(await super().json())
        except RecursionError as error:
            raise InvalidRequestError("The body is nested too deeply.", hint="See /docs for its shape.") from error
        note_paths(self.scope, body)
        return body


class AuthenticationMiddleware(AbstractAuthenticationMiddleware):
    """Authenticates every route that is not marked `public`, and checks the caller's permission.

    The permission is not checked in a guard, for which Litestar would copy the route's handler at every request.
    """

    def __init__(self, app: ASGIApp, runtime: GatewayRuntime) -> None:
        super().__init__(app, exclude="^/docs", exclude_from_auth_key="public")
        self._runtime = runtime

    async def authenticate_request(self, connection: ASGIConnection[Any, Any, Any, Any]) -> AuthenticationResult:
        """Authenticate the caller.

        Raises:
            AuthenticationError: the credential is missing or invalid.
            PermissionDeniedError: the request is not allowed.
            SystemNotFoundError: the system does not exist.
            RateLimitedError: the user has sent too many requests.
        """
        runtime = self._runtime
        try:
            caller = await runtime.authenticator.authenticate(connection.headers)
        except (InvalidCredentialError, DeniedUserError) as error:
            set_principal(connection.scope, error.principal)
            raise
        connection.scope["user"] = caller  # for the audit record of a refusal
        method = str(connection.scope.get("method", "GET"))  # a WebSocket's handshake is a GET
        scope = required_scope(method, connection.route_handler.opt)
        await runtime.rates.count(caller.username, is_change=scope.endswith(":write"))
        system = _system_of(connection, runtime)
        await runtime.authorization.check(caller, scope, system)
        return AuthenticationResult(user=caller, auth=None)


def provide_caller(request: Request[Principal, Any, Any]) -> Principal:
    """Return the dependency `caller`; None on public routes, whose handlers do not use it."""
    caller: Principal = request.scope.get("user")
    return caller


async def provide_system(request: GatewayRequest, caller: NamedDependency[Principal | None]) -> SystemRuntime:
    """Return the dependency `system`, from the path parameter `system_name`.

    It depends on `caller` so that it runs afterwards. Litestar runs independent dependencies in a task each, which
    would cost more than the rest of a status request.

    Raises:
        SystemNotFoundError: unknown system.
        PermissionDeniedError: all users act as the gateway's account there, and the caller may not; or the user's uid
            there is too small.
        MaintenanceError: the system is in maintenance.
    """
    system = request.runtime.systems.get(request.path_params["system_name"])
    await admit(request.runtime, system, caller)
    return system


async def admit(runtime: GatewayRuntime, system: SystemRuntime, caller: Principal | None) -> None:
    """Refuse a request to a system that is in maintenance, or of a caller who must not use it.

    Raises:
        PermissionDeniedError: as `provide_system`.
        MaintenanceError: the system is in maintenance.
    """
    config = runtime.config
    for maintenance in (config.maintenance, system.config.maintenance):
        if maintenance is not None:
            maintenance.check(system.name)
    if caller is not None:
        check_shared_user(config, system.config, caller.username)
        await system.check_user(caller)


def _system_of(connection: ASGIConnection[Any, Any, Any, Any], runtime: GatewayRuntime) -> str | None:
    """Return the name of the system of a request. A path of the IRI API has a resource in its place."""
    params = connection.path_params
    if "resource_id" in params:
        resource = runtime.facility.find(params["resource_id"], connection.route_handler.opt["resource"])
        params["system_name"] = resource.system.name
    name = params.get("system_name")
    return runtime.systems.get(name).name if name is not None else None


def _read(content: bytes, kind: type) -> Any:
    try:
        return read_message(content, kind)
    except TooManyElementsError as error:
        raise TooLargeError(str(error), hint="Send fewer at once.") from error
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise ValidationException(extra=[{"message": message, "key": path.rstrip("`"), "source": "body"}]) from error
    except msgspec.DecodeError as error:
        raise SerializationException(str(error)) from error
