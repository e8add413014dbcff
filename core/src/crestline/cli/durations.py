"""Parse and format durations and times for users."""

from __future__ import annotations

import re
from datetime import datetime

from crestline.cli.errors import UsageError
from crestline.model.time_limits import format_duration

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    """Parse `90`, `90s`, `15m`, `8h` or `3d` and return seconds.

    Raises:
        UsageError: invalid duration.
    """
    match = re.fullmatch(r"(\d+)([smhd]?)", text)
    if match is None:
        raise UsageError(f"{text!r} is not a length of time: write 90s, 15m, 8h or 3d.")
    return int(match[1]) * _UNITS[match[2]]


def clock(length: int | None) -> str:
    """Format seconds as `[D-]HH:MM:SS`. None gives an empty string."""
    return "" if length is None else format_duration(length)


def when(moment: float | None) -> str:
    """Format seconds since the epoch as a local date and time. None gives an empty string."""
    return "" if moment is None else datetime.fromtimestamp(moment).astimezone().isoformat(" ", "seconds")
