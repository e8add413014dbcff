"""Check that the gateway's state directory exists or can be created, is private, and has free space."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

from crestline.cli.checks import Check, Verdict, failed
from crestline.cli.checks.gateway.setup import Setup
from crestline.gateway.isolation import check_served_trees, check_shared_account
from crestline.gateway.state_directory import StateDirectory
from crestline.model import ConfigError

_ROOM = 100 * 1024 * 1024
"""Minimum free space in bytes."""


async def check(setup: Setup) -> AsyncIterator[Check]:
    """Check that users are isolated from the state directory, its secrets are private, and it is writable."""
    home = StateDirectory(setup.config.state_dir)
    try:
        check_served_trees(setup.config)
        check_shared_account(setup.config, _client_users(home.database))
    except ConfigError as error:
        yield failed("isolation", error)
    exposed = [file for file in (home.private, home.first_client) if file.exists() and _mode(file) & 0o077]
    if exposed:
        listed = " ".join(map(str, exposed))
        yield Check("home", Verdict.FAIL, f"{listed} can be read by others.", f"Run: chmod go= {listed}")
        return
    place = home.path
    while not place.exists():
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Check(
            "home", Verdict.FAIL, f"{place} cannot be written.", "Name another state directory, or change its owner."
        )
        return
    free = shutil.disk_usage(place).free
    if free < _ROOM:
        yield Check("home", Verdict.FAIL, f"The disk of {place} has {free // 1024**2} MiB left.", "Make room.")
        return
    yield Check("home", Verdict.OK, f"{home.path}{'' if place == home.path else ' will be made'}.")


def _mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def _client_users(database: Path) -> set[str]:
    """Return the users of the clients that are registered in the state directory."""
    if not database.exists():
        return set()
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection:
        try:
            return {row[0] for row in connection.execute("SELECT username FROM clients")}
        except sqlite3.DatabaseError:  # the database check reports the problem
            return set()
