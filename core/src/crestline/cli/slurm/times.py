"""Times and durations as Slurm's commands print them."""

from __future__ import annotations

import re
import time

from crestline.cli.slurm.program import CommandError
from crestline.model.time_limits import format_duration

_AGO = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
_MOMENTS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d", "%m/%d/%y-%H:%M:%S", "%m/%d/%y")


def short_duration(seconds: int) -> str:
    """Format seconds as squeue does: `[days-][hours:]minutes:seconds`."""
    days, hours, minutes, rest = _split(seconds)
    if days:
        return f"{days}-{hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def long_duration(seconds: int) -> str:
    """Format seconds as sacct does: `[days-]hours:minutes:seconds`."""
    return format_duration(max(int(seconds), 0))


def moment(epoch: int | None, unknown: str) -> str:
    """Format seconds since the epoch as local time, as Slurm does; None gives `unknown`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(epoch)) if epoch else unknown


def read_moment(program: str, text: str) -> float:
    """Parse a time such as the value of `--starttime` and return seconds since the epoch.

    Raises:
        CommandError: not one of `now[-1hour]`, `today`, `YYYY-MM-DD[THH:MM[:SS]]`, `MM/DD/YY`, `HH:MM[:SS]`.
    """
    now = time.time()
    if match := re.fullmatch(r"now(?:([+-])(\d+)(second|minute|hour|day|week)?s?)?", text):
        sign, count, unit = match.groups()
        return now + (1 if sign == "+" else -1) * int(count or 0) * _AGO[unit or "second"]
    today = time.strftime("%Y-%m-%d", time.localtime(now))
    if text in ("today", "midnight"):
        text = today
    elif re.fullmatch(r"\d{1,2}:\d\d(:\d\d)?", text):
        text = f"{today}T{text}"
    for form in _MOMENTS:
        try:
            return time.mktime(time.strptime(text, form))
        except ValueError:
            continue
    raise CommandError(f"{program}: error: Invalid time specification: {text}")


def _split(seconds: int) -> tuple[int, int, int, int]:
    minutes, rest = divmod(max(int(seconds), 0), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return days, hours, minutes, rest
