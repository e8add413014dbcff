"""Limits the number of requests of a user per minute."""

from __future__ import annotations

import math
from collections import OrderedDict

from aiolimiter import AsyncLimiter

from crestline.gateway import metrics
from crestline.gateway.config import RateLimits
from crestline.model import RateLimitedError

_MINUTE = 60.0
"""Seconds of a minute."""
_MOST_USERS = 10_000
"""Maximum number of users, of each kind, whose requests are counted."""


class UserRates:
    """Counts the requests of each user against the configured limits, in one event loop."""

    def __init__(self, limits: RateLimits) -> None:
        self._limits = {
            "requests": limits.requests_per_minute,
            "changes": limits.changes_per_minute,
        }
        self._users: dict[str, OrderedDict[str, AsyncLimiter]] = {kind: OrderedDict() for kind in self._limits}

    async def count(self, user: str, *, is_change: bool) -> None:
        """Count a request.

        Args:
            user: name of the user that sends it.
            is_change: whether it changes something, such as a submission or an upload.

        Raises:
            RateLimitedError: the user has sent too many requests; contains the seconds until the next one is accepted.
        """
        for kind in ("requests", "changes") if is_change else ("requests",):
            most = self._limits[kind]
            if most is None:
                continue
            limiter = self._limiter(kind, user, most)
            if not limiter.has_capacity():
                metrics.RATE_LIMITED.labels(kind).inc()
                raise RateLimitedError(
                    f"Too many {kind}: {user} may send {most} a minute.",
                    hint="Send fewer, for example one list of jobs in place of a request for each.",
                    retry_after=math.ceil(_MINUTE / most),
                )
            await limiter.acquire()

    def _limiter(self, kind: str, user: str, most: int) -> AsyncLimiter:
        users = self._users[kind]
        limiter = users.pop(user, None) or AsyncLimiter(most, _MINUTE)
        users[user] = limiter
        if len(users) > _MOST_USERS:
            users.popitem(last=False)
        return limiter
