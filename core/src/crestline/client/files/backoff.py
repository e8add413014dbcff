"""How long a transfer that does not get on is tried."""

from __future__ import annotations

import logging

import anyio

from crestline import clock
from crestline.model import CrestlineError

_LOG = logging.getLogger(__name__)

_TRIES = 6
_LONGEST_WAIT = 10.0


class Backoff:
    """A budget of failures in a row; `renew` it whenever something got through."""

    def __init__(self, tries: int = _TRIES, *, budget: float | None = None) -> None:
        """Count tries, or with `budget` the seconds since the first of them failed."""
        self._tries = tries
        self._budget = budget
        self._failures = 0
        self._since = 0.0

    def renew(self) -> None:
        """Reset the budget after a success."""
        self._failures = 0

    def _is_over(self) -> bool:
        if self._budget is None:
            return self._failures >= self._tries
        return clock.monotonic() - self._since >= self._budget

    async def wait(self, error: CrestlineError) -> None:
        """Pause before the next try: 0.2 s, doubled with every failure, or what the server asks for.

        Raises:
            CrestlineError: `error` itself, if it was the last.
        """
        self._failures += 1
        if self._failures == 1:
            self._since = clock.monotonic()
        if self._is_over():
            raise error
        _LOG.warning("A transfer is tried again: %s", error.message)
        await anyio.sleep(min(error.retry_after or 0.1 * 2 ** min(self._failures, 10), _LONGEST_WAIT))
