"""The time that a server reports."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import httpx

MAX_SKEW = 20
"""Maximum clock difference in seconds. Beyond it, tokens seem expired or not yet valid."""


def date_of(answer: httpx.Response) -> float | None:
    """Return the `Date` of a response in seconds since the epoch, or None if it is missing or malformed."""
    try:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
