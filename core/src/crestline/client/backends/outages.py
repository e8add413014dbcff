"""What a gateway answers while its requests fail and are repeated, for the log.

The records are of level INFO: commands show none of them. A program that waits through outages for hours gives this
module's logger a handler.
"""

from __future__ import annotations

import logging

import httpx

logger = logging.getLogger(__name__)


class OutageLog:
    """Logs failures of a gateway in a row: once, again when the answer changes, and their end.

    A failure that the next try overcomes is not worth a word. The parts of the API (`compute`, `filesystem`, `status`)
    fail apart from each other.

    Args:
        url: of the gateway.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._base = httpx.URL(self._url).path.rstrip("/")
        self._failures: dict[str, int] = {}
        self._logged: dict[str, str] = {}

    def failed(self, request: httpx.Request, message: str) -> None:
        """A try has failed, and will be repeated or not."""
        part = self._part(request)
        self._failures[part] = self._failures.get(part, 0) + 1
        if self._failures[part] > 1 and self._logged.get(part) != message:
            self._logged[part] = message
            logger.info("%s (%s) fails, and is asked again: %s", self._url, part, message)

    def succeeded(self, request: httpx.Request) -> None:
        """The gateway has done, or finally refused, what a request asked for."""
        part = self._part(request)
        self._failures.pop(part, None)
        if self._logged.pop(part, None) is not None:
            logger.info("%s (%s) answers again.", self._url, part)

    def _part(self, request: httpx.Request) -> str:
        return request.url.path.removeprefix(self._base).strip("/").partition("/")[0]
