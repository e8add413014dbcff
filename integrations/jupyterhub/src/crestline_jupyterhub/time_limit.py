"""How long a time limit is, as Slurm writes it (sbatch(1), option `--time`)."""

from __future__ import annotations

import re

_FORM = re.compile(r"(?:(\d+)-(\d+)(?::(\d+)(?::(\d+))?)?|(\d+)(?::(\d+)(?::(\d+))?)?)")


def seconds(limit: str | int | None) -> int | None:
    """Seconds of `JobSpec.time_limit`: a number of them, or Slurm's text; None for none, and for what has no number."""
    if limit is None or isinstance(limit, int):
        return limit
    form = _FORM.fullmatch(limit.strip())
    if form is None:
        return None
    days, hours, minutes, rest, *plain = (int(part) if part is not None else None for part in form.groups())
    if days is not None:
        return days * 86400 + (hours or 0) * 3600 + (minutes or 0) * 60 + (rest or 0)
    given = [part for part in plain if part is not None]
    if len(given) == 3:
        return given[0] * 3600 + given[1] * 60 + given[2]
    return given[0] * 60 + (given[1] if len(given) == 2 else 0)
