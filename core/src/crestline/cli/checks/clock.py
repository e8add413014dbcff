"""What time a server says it is."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import httpx

MAX_SKEW = 20
"""seconds that clocks may differ before tokens look expired or not yet valid"""


def date_of(answer: httpx.Response) -> float | None:
    """The `Date` of an answer in seconds since the epoch; None without one that can be read."""
    try:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
