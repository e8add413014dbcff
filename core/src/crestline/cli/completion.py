"""Shell completion of job ids and of paths on a system. If an error occurs, there are no suggestions.

Shells evaluate the suggestions (zsh immediately, others with the completed line), and other users choose the names of
files on a system. For that reason, names with special characters are never suggested.
"""

from __future__ import annotations

import asyncio
import contextlib
import posixpath
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from crestline.cli.path_argument import parse_remote_path
from crestline.model import CrestlineError

if TYPE_CHECKING:
    from crestline.client import System

T = TypeVar("T")

_PLAIN = re.compile(r"[\w@%+=:,./~-]+")
_SPECIAL = re.compile(r"[^\w@%+=:,./ -]")

_TIMEOUT = 3.0
"""Seconds before a completion gives up."""


def complete_jobs(incomplete: str) -> list[tuple[str, str]]:
    """Return the ids of the user's jobs of the last day on the default system, each with its name and state."""

    async def look(system: System) -> list[tuple[str, str]]:
        return [(job.job_id, _SPECIAL.sub("?", f"{job.name} {job.state}")) for job in await system.jobs()]

    return [
        (job_id, about)
        for job_id, about in _ask(None, look)
        if job_id.startswith(incomplete) and _PLAIN.fullmatch(job_id)
    ]


def complete_paths(incomplete: str) -> list[str]:
    """Complete `:PATH` and `SYSTEM@SITE:PATH` on the system. The shell itself completes local paths."""
    place = parse_remote_path(incomplete, None)
    if not place.remote:
        return []
    directory, name = posixpath.split(place.path)
    prefix = incomplete[: len(incomplete) - len(name)]

    async def look(system: System) -> list[str]:
        files = await system.ls(await system.resolve_path(directory), hidden=name.startswith("."))
        return [
            prefix + file.name + ("/" if file.is_directory else "") for file in files if _PLAIN.fullmatch(file.name)
        ]

    return [path for path in _ask(place.site, look) if path.startswith(incomplete)]


def complete_remote_paths(incomplete: str) -> list[str]:
    """Complete paths of commands whose arguments are always on the system, with or without a colon."""
    if ":" in incomplete:
        return complete_paths(incomplete)
    return [path.removeprefix(":") for path in complete_paths(f":{incomplete}")]


def _ask(site: str | None, look: Callable[[System], Awaitable[list[T]]]) -> list[T]:
    from crestline.cli.connecting import on_system

    async def bounded(system: System) -> list[T]:
        async with asyncio.timeout(_TIMEOUT):
            return await look(system)

    with contextlib.suppress(CrestlineError, OSError, TimeoutError, ExceptionGroup):
        return on_system(site, bounded, retry=False)
    return []
