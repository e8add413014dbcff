"""Whether the gateway wants requests: a load balancer asks."""

from __future__ import annotations

from crestline.gateway.schedulers.single_flight_cache import SingleFlightCache
from crestline.gateway.store import Store
from crestline.model import GatewayUnavailableError


class Readiness:
    """Ready while the database answers and the gateway has not been asked to stop.

    The systems behind it do not count: all replicas have the same ones, and one that is down is answered for.
    """

    def __init__(self, store: Store) -> None:
        self.draining = False
        self._ping = SingleFlightCache(store.ping)

    async def check(self) -> None:
        """Return if it is.

        Raises:
            GatewayUnavailableError: it is not.
        """
        if self.draining:
            raise GatewayUnavailableError("The gateway is going down.", hint="Ask another.", retry_after=1)
        await self._ping.get()

    async def close(self) -> None:
        """End a look that is under way."""
        await self._ping.close()
