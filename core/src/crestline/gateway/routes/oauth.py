"""The built-in issuer: token endpoint, keys, discovery."""

from __future__ import annotations

import base64
import binascii
import math
from typing import Any
from urllib.parse import unquote_plus

from litestar import Response, Router, get, post
from litestar.params import URLEncodedBody

from crestline.gateway.audit.notes import REFUSAL, set_principal
from crestline.gateway.identity import Principal
from crestline.gateway.identity.issuer import OAuthError, TokenAnswer, TokenRefusal
from crestline.gateway.identity.keys import public_keys
from crestline.gateway.requests import GatewayRequest
from crestline.wire.extensions import SCOPES

_MAX_FORM = 16 * 1024
"""Maximum size in bytes of a form."""
_NO_STORE = {"Cache-Control": "no-store"}


@post("/oauth2/token", status_code=200, request_max_body_size=_MAX_FORM)
async def post_token(
    request: GatewayRequest, data: URLEncodedBody[dict[str, str]]
) -> Response[TokenAnswer | TokenRefusal]:
    """Return a token for client credentials or a refresh token (RFC 6749)."""
    issuer, failures = request.runtime.issuer, request.runtime.sign_ins
    address = request.client.host if request.client else ""
    headers = dict(_NO_STORE)
    try:
        client_id, secret = _client_credentials(request.headers.get("authorization"), data)
        if await issuer.knows(client_id):
            set_principal(request.scope, Principal(username="", client_id=client_id, via="client"))
        return Response(await issuer.grant(data, client_id, secret), headers=headers)
    except OAuthError as error:
        request.scope[REFUSAL] = str(error)  # type: ignore[literal-required]
        status = error.status
        if status == 401:
            failures.note(address)
            # Valid secrets are still accepted, because an address may belong to a proxy or to many machines.
            if (pause := failures.retry_after(address)) is not None:
                status = 429
                headers["Retry-After"] = str(math.ceil(pause))
        return Response(error.refusal, status_code=status, headers=headers)


@get("/oauth2/jwks")
async def get_keys(request: GatewayRequest) -> dict[str, Any]:
    """Return the issuer's public keys (RFC 7517)."""
    return public_keys(request.runtime.issuer.key)


@get("/.well-known/openid-configuration")
async def get_discovery(request: GatewayRequest) -> dict[str, Any]:
    """Return the addresses of the endpoints (OpenID Connect Discovery)."""
    base = request.runtime.public_url()
    return {
        "issuer": request.runtime.issuer.name,
        "token_endpoint": f"{base}/oauth2/token",
        "jwks_uri": f"{base}/oauth2/jwks",
        "grant_types_supported": ["client_credentials", "refresh_token"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": [],
        "subject_types_supported": ["public"],
        "scopes_supported": ["offline_access", *sorted(SCOPES)],
    }


def _client_credentials(authorization: str | None, form: dict[str, str]) -> tuple[str, str]:
    """Read the client's credentials from the Authorization header (form-encoded, RFC 6749 section 2.3.1), or from
    the form."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id", ""), form.get("client_secret", "")
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise OAuthError("invalid_client", "The Authorization header is not Basic credentials.", 401) from error
    return unquote_plus(client_id), unquote_plus(secret)


router = Router(
    "/",
    route_handlers=[post_token, get_keys, get_discovery],
    tags=["oauth2"],
    opt={"public": True},
    request_max_body_size=_MAX_FORM,
)
