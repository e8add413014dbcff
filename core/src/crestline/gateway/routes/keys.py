"""`/keys`: the caller's API keys."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, Router, delete, get, post
from litestar.params import JSONBody, PathParameter

from crestline.gateway.audit import note_target
from crestline.gateway.requests import CallerDependency, GatewayRequest
from crestline.gateway.routes.bodies import MAX_FIELDS
from crestline.wire.extensions import ApiKeyRequest, ApiKeysAnswer, NewApiKey


@get("/")
async def get_keys(request: GatewayRequest, caller: CallerDependency) -> ApiKeysAnswer:
    """Return the caller's API keys."""
    return ApiKeysAnswer(keys=await request.runtime.api_keys.list(caller.username))


@post("/", status_code=201)
async def post_key(
    request: GatewayRequest, caller: CallerDependency, data: JSONBody[ApiKeyRequest]
) -> Response[NewApiKey]:
    """Create an API key. Only this response contains the key itself."""
    key = await request.runtime.api_keys.create(caller, data.name, data.scopes, data.expires_in)
    note_target(request.scope, key.key_id)
    return Response(key, headers={"Cache-Control": "no-store"})


@delete("/{key_id:str}", status_code=204)
async def delete_key(
    request: GatewayRequest,
    caller: CallerDependency,
    key_id: Annotated[str, PathParameter(description="An API key's id")],
) -> None:
    """Revoke one of the caller's API keys."""
    await request.runtime.api_keys.revoke(key_id, caller.username)


router = Router(
    "/keys",
    route_handlers=[get_keys, post_key, delete_key],
    opt={"area": "keys"},
    tags=["crestline"],
    request_max_body_size=MAX_FIELDS,
)
