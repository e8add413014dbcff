"""Whether the gateway accepts requests, for a load balancer."""

from __future__ import annotations

from crestline.gateway.schedulers.single_flight_cache import SingleFlightCache
from crestline.gateway.store import Store
from crestline.model import GatewayUnavailableError


class Readiness:
    """Ready while the database responds and the gateway has not been asked to stop.

    The systems behind it do not matter: all replicas have the same ones, and requests to an unavailable one get an
    error.
    """

    def __init__(self, store: Store) -> None:
        self.draining = False
        self._ping = SingleFlightCache(store.ping)

    async def check(self) -> None:
        """Return if the gateway is ready.

        Raises:
            GatewayUnavailableError: the gateway is not ready.
        """
        if self.draining:
            raise GatewayUnavailableError("The gateway is going down.", hint="Ask another.", retry_after=1)
        await self._ping.get()

    async def close(self) -> None:
        """Cancel a running check."""
        await self._ping.close()
