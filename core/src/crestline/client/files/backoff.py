"""Waits between the tries of a transfer that fails."""

from __future__ import annotations

import logging

import anyio

from crestline import clock
from crestline.model import CrestlineError

_LOG = logging.getLogger(__name__)

_TRIES = 6
_LONGEST_WAIT = 10.0


class Backoff:
    """Limits consecutive failures, by number or by time; `renew` resets it after a success.

    Args:
        timeout: seconds after the first failure; None: six tries instead.
    """

    def __init__(self, *, timeout: float | None = None) -> None:
        self._timeout = timeout
        self._failures = 0
        self._since = 0.0

    def renew(self) -> None:
        """Reset the limit after a success."""
        self._failures = 0

    def _is_over(self) -> bool:
        if self._timeout is None:
            return self._failures >= _TRIES
        return clock.monotonic() - self._since >= self._timeout

    async def wait(self, error: CrestlineError) -> None:
        """Wait before the next try: 0.2 s, doubled with every failure, or the time of `Retry-After`.

        Raises:
            CrestlineError: `error` itself, if the limit is reached.
        """
        self._failures += 1
        if self._failures == 1:
            self._since = clock.monotonic()
        if self._is_over():
            raise error
        _LOG.warning("A transfer is tried again: %s", error.message)
        await anyio.sleep(min(error.retry_after or 0.1 * 2 ** min(self._failures, 10), _LONGEST_WAIT))
