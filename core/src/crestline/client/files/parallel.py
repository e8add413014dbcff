"""Several transfers at once, few enough for a server that counts sessions per user."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import anyio

AT_ONCE = 4
"""sshd's default of 10 sessions per connection is all that plain FirecREST has for one user"""


async def run_parallel(tasks: Iterable[Callable[[], Awaitable[None]]]) -> None:
    """Run all, at most `AT_ONCE` at a time; the first error ends the others and is raised as it is."""
    limiter = anyio.Semaphore(AT_ONCE)

    async def run(task: Callable[[], Awaitable[None]]) -> None:
        async with limiter:
            await task()

    try:
        async with anyio.create_task_group() as group:
            for task in tasks:
                group.start_soon(run, task)
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
