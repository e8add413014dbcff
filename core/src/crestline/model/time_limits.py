"""Time limits of jobs, as Slurm reads and writes them (sbatch(1), option `--time`)."""

from __future__ import annotations

import re

from crestline.model.errors import InvalidRequestError

_FORM = re.compile(r"(?:(\d{1,6})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?", re.ASCII)


def parse_time_limit(text: str) -> int | None:
    """Parse a time limit and return seconds, or None for no limit.

    Formats: `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes`,
    `days-hours:minutes:seconds`. `UNLIMITED`, `INFINITE`, `-1` and every zero mean no limit.

    Raises:
        InvalidRequestError: the text has another form.

    >>> parse_time_limit("1-12:30")
    131400
    """
    if text.upper() in ("UNLIMITED", "INFINITE", "-1"):
        return None
    match = _FORM.fullmatch(text)
    if match is None:
        shown = repr(text if len(text) <= 80 else text[:77] + "...")
        raise InvalidRequestError(
            f"Invalid time limit: {shown}.",
            hint="Write minutes, minutes:seconds, [days-]hours:minutes:seconds, days-hours or days-hours:minutes.",
        )
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
        return ((int(days) * 24 + hours) * 60 + minutes) * 60 + seconds or None
    hours, minutes, seconds = {1: (0, *numbers, 0), 2: (0, *numbers), 3: tuple(numbers)}[len(numbers)]
    return (hours * 60 + minutes) * 60 + seconds or None


def seconds_of(limit: str | int | None) -> int | None:
    """Return the seconds of a `JobSpec.time_limit`, or None for no limit.

    Args:
        limit: seconds, or a text as `parse_time_limit` accepts it.

    Raises:
        InvalidRequestError: the text is not a time limit.
    """
    return parse_time_limit(limit.strip()) if isinstance(limit, str) else limit


def format_duration(seconds: int) -> str:
    """Format seconds as Slurm writes durations, `[D-]HH:MM:SS`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hour:02d}:{minute:02d}:{second:02d}"
