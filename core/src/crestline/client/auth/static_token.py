"""A bearer token that is renewed outside the client."""

from __future__ import annotations

from collections.abc import Mapping

from crestline.client.auth.base import Authorizer, fingerprint, sendable


class StaticToken(Authorizer):
    """Sends one token until it is refused."""

    def __init__(self, token: str) -> None:
        self.identity = f"token {fingerprint(token)}"
        self._token = token

    async def auth_headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {sendable(self._token)}"}

    def refused(self, headers: Mapping[str, str]) -> bool:
        return False
