"""Several transfers at once, few enough for a server that counts sessions per user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

from crestline.concurrency import map_concurrently

AT_ONCE = 4
"""sshd's default of 10 sessions per connection is all that plain FirecREST has for one user"""


async def run_parallel(tasks: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run all, at most `AT_ONCE` at a time; the first error ends the others and is raised as it is."""
    await map_concurrently(lambda task: task(), tasks, AT_ONCE)
