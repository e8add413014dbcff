"""A bearer token that is renewed outside the client."""

from __future__ import annotations

from collections.abc import Mapping

from crestline.client.auth.base import Authorizer, fingerprint


class StaticToken(Authorizer):
    """Sends one token until it is refused."""

    def __init__(self, token: str) -> None:
        self.identity = f"token {fingerprint(token)}"
        self._headers = {"Authorization": f"Bearer {token}"}

    async def auth_headers(self) -> dict[str, str]:
        return dict(self._headers)

    def refused(self, headers: Mapping[str, str]) -> bool:
        return False
