"""Time limits as users write them, including YAML's interpretation of 00:30:00 without quotes as the number 1800."""

from __future__ import annotations

import re

import msgspec

from crestline.model import InvalidRequestError
from crestline.model.time_limits import format_duration, parse_time_limit
from crestline_gitlab_runner.failures import BuildFailureError


class TimeLimit(msgspec.Struct, frozen=True):
    """A time limit, with a message on its interpretation."""

    text: str
    """The time limit in Slurm's format."""
    seconds: int
    remark: str = ""


def parse_limit(text: str, who: str, *, longest: int | None) -> TimeLimit:
    """Parse a limit of sbatch's `--time`. A plain number is in minutes.

    Args:
        text: the limit.
        who: its source, for messages.
        longest: seconds; a larger plain number that YAML may have made of `hours:minutes:seconds` is refused.

    Raises:
        BuildFailureError: the limit is invalid, or probably not the intended one.
    """
    if re.fullmatch(r"\d{1,9}", text, re.ASCII) and (number := int(text)):
        seconds = number * 60
        meant = format_duration(number)
        trap = (
            f"{who} is the bare number {number}, which Slurm takes as minutes ({format_duration(seconds)}). "
            f'If you wrote {meant} without quotes, YAML has made {number} of it: write "{meant}".'
        )
        if longest is not None and seconds > longest and number >= 60:
            raise BuildFailureError(trap, hint=f"More than {format_duration(longest)} is not possible here.")
        return TimeLimit(format_duration(seconds), seconds, trap if number >= 60 else "")
    try:
        total = parse_time_limit(text)
    except InvalidRequestError as error:
        hint = 'Write "01:30:00", "1-12:00:00", or minutes.'
        raise BuildFailureError(f"{who}: {error.message}", hint=hint) from error
    if not total:
        raise BuildFailureError(
            f"{who}: {text!r} is unlimited, but a job needs a time limit.", hint='Write "00:10:00".'
        )
    return TimeLimit(format_duration(total), total)
