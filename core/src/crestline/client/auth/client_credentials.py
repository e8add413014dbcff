"""OAuth2 client credentials: an id and a secret for a machine (RFC 6749, section 4.4)."""

from __future__ import annotations

import ssl

from crestline.client.auth.base import BearerAuthorizer, fingerprint
from crestline.client.auth.token import Token, shared_source
from crestline.client.auth.token_endpoint import request_token


class ClientCredentials(BearerAuthorizer):
    """Gets a token for a client id and its secret, and a new one before it expires."""

    def __init__(
        self,
        token_url: str,
        client_id: str,
        client_secret: str,
        *,
        scope: str | None = None,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        self.identity = f"client {client_id} of {token_url}" + (f" with scope {scope}" if scope else "")
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        if scope:
            form["scope"] = scope

        def fetch() -> Token:
            return request_token(token_url, form, verify=verify)[0]

        self._source = shared_source(
            ("client_credentials", token_url, client_id, fingerprint(client_secret), scope), fetch
        )
