"""An API key in a header, for a gateway or an API manager before it that takes one."""

from __future__ import annotations

from collections.abc import Mapping

from crestline.client.auth.base import Authorizer, fingerprint, sendable


class ApiKey(Authorizer):
    """Sends the key with every request."""

    def __init__(self, key: str, header: str = "X-API-Key") -> None:
        self.identity = f"API key {fingerprint(key)}"
        self.header = header
        self._headers = {header: key}

    async def auth_headers(self) -> dict[str, str]:
        return {name: sendable(key) for name, key in self._headers.items()}

    def refused(self, headers: Mapping[str, str]) -> bool:
        return False
