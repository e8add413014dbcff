"""Names of the other machine's users and groups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Literal

from crestline.gateway.hosts.ssh.commands import SshCommands
from crestline.model.text import printable

_KEPT = 600.0
_MAX_NAME = 256
_MOST = 16 * 1024 * 1024
"""Maximum size in bytes of getent(1)'s output, which names all members of a group."""

Kind = Literal["passwd", "group"]


class Names:
    """Asks getent(1) once for each number and user, and again after ten minutes.

    Names from one user's login are never shown to another user, who would take an invented name for a file's owner.
    """

    def __init__(self, commands: SshCommands, timeout: float) -> None:
        self._commands = commands
        self._timeout = timeout
        self._cached: dict[tuple[str, Kind], dict[str, tuple[str, float]]] = {}

    async def lookup(
        self, user: str, uids: Iterable[str], gids: Iterable[str]
    ) -> tuple[dict[str, str], dict[str, str]]:
        """Return names by number of users and groups. A number without a name stands for itself."""
        users, groups = await asyncio.gather(self._of(user, "passwd", set(uids)), self._of(user, "group", set(gids)))
        return users, groups

    async def _of(self, user: str, kind: Kind, numbers: set[str]) -> dict[str, str]:
        known, now = self._cached.setdefault((user, kind), {}), time.monotonic()
        if missing := sorted(each for each in numbers if each not in known or known[each][1] < now):
            result = await self._commands.run(user, ["getent", kind, *missing], timeout=self._timeout, max_output=_MOST)
            found = {each: each for each in missing}
            for line in result.stdout.decode(errors="replace").splitlines():
                name, _, number, *_ = [*line.split(":", 3), "", ""]
                if number in found:
                    found[number] = printable(name)[:_MAX_NAME]
            known.update({number: (name, now + _KEPT) for number, name in found.items()})
        return {each: known[each][0] for each in numbers}
