"""Access tokens of a simulated identity provider, renewed like those of the client's own authorizers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from crestline import clock
from crestline.client.auth import Authorizer
from crestline.client.auth.token import Token, make_token
from crestline.testing.simulation.firecrest import SimulatedFirecrest


class SimulatedLogin(Authorizer):
    """Fetches tokens without a thread, otherwise like `crestline.client.auth.token.TokenSource`."""

    identity = "simulated user"

    def __init__(self, issuer: SimulatedFirecrest) -> None:
        self._issuer = issuer
        self._kept: Token | None = None
        self._lock = asyncio.Lock()

    async def auth_headers(self) -> dict[str, str]:
        async with self._lock:
            if self._kept is None or not self._kept.is_fresh(clock.time()):
                await asyncio.sleep(0.05)
                self._kept = make_token(self._issuer.issue(), clock.time(), self._issuer.token_life)
            return {"Authorization": f"Bearer {self._kept.value}"}

    def refused(self, headers: Mapping[str, str]) -> bool:
        if self._kept is not None and headers.get("Authorization") == f"Bearer {self._kept.value}":
            self._kept = None
        return True
