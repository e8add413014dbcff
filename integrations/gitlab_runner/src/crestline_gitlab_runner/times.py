"""Time limits as users write them, and the trap that YAML sets: 00:30:00 without quotes is the number 1800."""

from __future__ import annotations

import re

import msgspec

from crestline_gitlab_runner.failures import BuildFailureError

_FORM = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d{2})|(\d+)-(\d+)(?::(\d{2}))?")


class Minutes(msgspec.Struct, frozen=True):
    """A time limit."""

    text: str
    """as Slurm is told"""
    seconds: int
    remark: str = ""


def parse_limit(text: str, who: str, *, longest: int | None) -> Minutes:
    """A limit as sbatch's `--time` takes it; a bare number is minutes.

    Args:
        longest: seconds; a bare number beyond it that YAML may have made of `hours:minutes:seconds` is refused.

    Raises:
        BuildFailureError: it is no time limit, or probably not the one that was meant.
    """
    if re.fullmatch(r"\d{1,9}", text):
        number = int(text)
        seconds = number * 60
        meant = clock(number)
        trap = (
            f"{who} is the bare number {number}, which Slurm takes as minutes ({clock(seconds)}). If you wrote {meant} "
            f'without quotes, YAML has made {number} of it: write "{meant}".'
        )
        if longest is not None and seconds > longest and number >= 60:
            raise BuildFailureError(trap, hint=f"More than {clock(longest)} is not possible here.")
        return Minutes(clock(seconds), seconds, trap if number >= 60 else "")
    match = _FORM.fullmatch(text)
    if match is None:
        raise BuildFailureError(
            f"{who}: {text!r} is no time limit.", hint='Write "01:30:00", "1-12:00:00", or minutes.'
        )
    days, hours, minutes, seconds_part, only_days, day_hours, day_minutes = match.groups()
    if only_days is not None:
        total = int(only_days) * 86400 + int(day_hours) * 3600 + int(day_minutes or 0) * 60
    elif days is not None and hours is None:  # D-H:M
        total = int(days) * 86400 + int(minutes) * 3600 + int(seconds_part) * 60
    else:
        total = int(days or 0) * 86400 + int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds_part)
    if total == 0:
        raise BuildFailureError(f"{who}: a time limit of nothing.", hint='Write "00:10:00".')
    return Minutes(clock(total), total)


def clock(seconds: int) -> str:
    """`[D-]HH:MM:SS`"""
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return (f"{days}-" if days else "") + f"{hour:02d}:{minute:02d}:{second:02d}"
