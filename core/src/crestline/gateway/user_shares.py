"""A share for each user of what is there in a limited number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from anyio import CapacityLimiter


class UserShares:
    """So many places, of which one user has a share at most: the others find the rest free.

    Attributes:
        places: all of them.
    """

    def __init__(self, places: int, share: int) -> None:
        self.places = CapacityLimiter(places)
        self._share = share
        self._shares: WeakValueDictionary[str, CapacityLimiter] = WeakValueDictionary()

    def of(self, user: str) -> CapacityLimiter:
        """The user's share; it lasts as long as the caller keeps it."""
        share = self._shares.get(user)
        if share is None:
            self._shares[user] = share = CapacityLimiter(self._share)
        return share

    @asynccontextmanager
    async def hold(self, user: str) -> AsyncIterator[None]:
        """Wait until the user's share and the whole have a place free, and have it."""
        async with self.of(user), self.places:
            yield
