"""Amounts of memory, as Slurm reads them (sbatch(1), option `--mem`)."""

from __future__ import annotations

import re

from crestline.model.errors import InvalidRequestError
from crestline.model.sbatch import truncated_repr


def parse_memory(text: str) -> int:
    """Parse an amount of memory (`4G`, `500M`, `1T`, `2048K`; without unit MiB) and return MiB, rounded up.

    Raises:
        InvalidRequestError: the text has another form.
    """
    match = re.fullmatch(r"(\d{1,12})([KMGT]?)B?", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise InvalidRequestError(
            f"{truncated_repr(text)} is not an amount of memory.", hint="Write for example 4G or 500M."
        )
    number, unit = int(match[1]), match[2].upper()
    if unit == "K":
        return -(-number // 1024)
    return number * {"": 1, "M": 1, "G": 1024, "T": 1024 * 1024}[unit]
