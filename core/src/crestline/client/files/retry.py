"""How long a transfer that does not get on is tried."""

from __future__ import annotations

import anyio

from crestline.model import CrestlineError

_TRIES = 6
_LONGEST_WAIT = 10.0


class Patience:
    """A budget of failures in a row; `renew` it whenever something got through."""

    def __init__(self, tries: int = _TRIES) -> None:
        self._tries = tries
        self._failures = 0

    def renew(self) -> None:
        """Something got through."""
        self._failures = 0

    async def wait(self, error: CrestlineError) -> None:
        """Pause before the next try: 0.2 s, doubled with every failure, or what the server asks for.

        Raises:
            CrestlineError: `error` itself, if it was the last.
        """
        self._failures += 1
        if self._failures >= self._tries:
            raise error
        await anyio.sleep(min(error.retry_after or 0.1 * 2**self._failures, _LONGEST_WAIT))
