"""The gateway's home: there or to be made, private, and with room."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import AsyncIterator
from pathlib import Path

from crestline.cli.checks import Check, Verdict
from crestline.cli.checks.gateway.setup import Setup
from crestline.gateway.home import Home

_ROOM = 100 * 1024 * 1024
"""bytes"""


async def check(setup: Setup) -> AsyncIterator[Check]:
    """The folder and its secrets."""
    home = Home(setup.config.home)
    exposed = [file for file in (home.private, home.first_client) if file.exists() and _mode(file) & 0o077]
    if exposed:
        listed = " ".join(map(str, exposed))
        yield Check("home", Verdict.FAIL, f"{listed} can be read by others.", f"Run: chmod go= {listed}")
        return
    place = home.path
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Check("home", Verdict.FAIL, f"{place} cannot be written.", "Name another home, or change its owner.")
        return
    free = shutil.disk_usage(place).free
    if free < _ROOM:
        yield Check("home", Verdict.FAIL, f"The disk of {place} has {free // 1024**2} MiB left.", "Make room.")
        return
    yield Check("home", Verdict.OK, f"{home.path}{'' if place == home.path else ' will be made'}.")


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)
