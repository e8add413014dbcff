"""Divides a limited number of slots among users."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from anyio import CapacityLimiter


class UserShares:
    """A number of slots, of which one user can hold only a share, so that others always find free ones.

    Attributes:
        places: number of all slots.
    """

    def __init__(self, places: int, share: int) -> None:
        self.places = CapacityLimiter(places)
        self._share = share
        self._shares: WeakValueDictionary[str, CapacityLimiter] = WeakValueDictionary()

    def of(self, user: str) -> CapacityLimiter:
        """Return the user's share. It exists as long as the caller keeps it."""
        share = self._shares.get(user)
        if share is None:
            self._shares[user] = share = CapacityLimiter(self._share)
        return share

    @asynccontextmanager
    async def hold(self, user: str) -> AsyncIterator[None]:
        """Wait until the user's share and the whole have a free slot, and hold it."""
        async with self.of(user), self.places:
            yield
