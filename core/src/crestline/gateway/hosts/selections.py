"""Which files of a directory a request for a tar stream selects."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping

from crestline.wire.extensions import TarSelection


def chosen(ages: Mapping[str, int], selection: TarSelection) -> list[str]:
    """The selected names, sorted.

    Args:
        ages: path below the directory -> nanoseconds since the epoch of the last change.
    """
    found = set()
    if selection.since is not None and (since := ages.get(selection.since)) is not None:
        found = {name for name, changed in ages.items() if changed >= since and name != selection.since}
    for pattern in selection.patterns:
        matches = re.compile(fnmatch.translate(pattern)).match
        found |= {name for name in ages if matches(name)}
    return sorted(found)
