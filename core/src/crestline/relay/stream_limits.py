"""How many requests a hub's users may have open at once, so that no user takes the descriptors of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from crestline.relay.tokens import Session
from crestline.serving.limits import raise_descriptor_limit

RESERVED_PART = 4
"""one in so many of a hub's streams is kept for users who have few"""
FEW = 16


class LimitReachedError(Exception):
    """A session, a user or the hub has as many streams as it may have."""


class StreamLimits:
    """Counts the streams of one hub in one direction.

    Args:
        per_session: streams of one session at once.
        per_user: streams of one user's sessions at once.
        total: streams of the hub at once; a quarter of them is kept for users with few.
    """

    def __init__(self, per_session: int, per_user: int, total: int) -> None:
        self._per_session = per_session
        self._per_user = per_user
        self._total = total
        self.open = 0
        """streams at the moment"""
        self._by_session: Counter[str] = Counter()
        self._by_user: Counter[str] = Counter()

    @contextmanager
    def stream(self, session: Session) -> Iterator[None]:
        """Count one stream of a session while it is open.

        Raises:
            LimitReachedError: the session, its user or the hub has too many.
        """
        if self._by_session[session.id] >= self._per_session:
            raise LimitReachedError(f"This session has {self._per_session} requests open, as many as it may have.")
        if self._by_user[session.user] >= self._per_user:
            raise LimitReachedError(f"This user has {self._per_user} requests open, as many as a user may have.")
        few = self._by_user[session.user] < FEW
        if self.open >= self._total - (0 if few else self._total // RESERVED_PART):
            raise LimitReachedError("The relay has as many requests open for this hub as it may have.")
        self.open += 1
        self._by_session[session.id] += 1
        self._by_user[session.user] += 1
        try:
            yield
        finally:
            self.open -= 1
            for counter, key in ((self._by_session, session.id), (self._by_user, session.user)):
                counter[key] -= 1
                if not counter[key]:
                    del counter[key]


def descriptor_share(hubs: int) -> int:
    """Descriptors that each of so many hubs may use: half of the process's limit, divided among them."""
    return min(raise_descriptor_limit(), 1 << 16) // 2 // max(hubs, 1)
