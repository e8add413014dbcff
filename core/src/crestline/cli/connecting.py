"""Connect to a system and run the asynchronous part of a command."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from crestline.cli.interruptible import ENDED_BY_SIGTERM, run_interruptible
from crestline.cli.output import note
from crestline.listening import check_listening

if TYPE_CHECKING:
    from crestline.client import System
    from crestline.model import JobSpec

T = TypeVar("T")


def on_system(target: str | None, action: Callable[[System], Awaitable[T]], *, retry: bool = True) -> T:
    """Connect to `target`, run `action` there, and disconnect.

    Args:
        retry: whether to retry while the gateway does not respond. False is for interactive commands: it fails after a
            few seconds, and caches the access token for the next such command.
    """

    async def connected() -> T:
        from crestline.client import Policy, RetryPolicy, connect, find_site
        from crestline.client.session_cache import session_cache_file

        check_listening(find_site(target)[0].url)
        attempts = RetryPolicy() if retry else RetryPolicy(attempts=2, total_timeout=15)
        session_cache = None if retry else session_cache_file(target)
        async with connect(target, policy=Policy(retry=attempts), session_cache=session_cache) as system:
            return await action(system)

    return run_async(connected())


def on_site_for(spec: JobSpec, target: str | None, action: Callable[[System], Awaitable[T]], *, key: str | None) -> T:
    """Run `action` like `on_system`. For `any`, choose a suitable system, the same one for the same key."""
    from crestline.client.federation import connect_any, is_any

    if target is None or not is_any(target):
        return on_system(target, action)

    async def connected() -> T:
        async with connect_any(spec, target, key=key) as system:
            note(f"The job goes to {system.target}.")
            return await action(system)

    return run_async(connected())


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`. Ctrl-C and SIGTERM cancel it, so that it can clean up.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        typer.Exit: SIGTERM.
    """

    try:
        return run_interruptible(work)
    except asyncio.CancelledError:
        raise typer.Exit(ENDED_BY_SIGTERM) from None


def site_targets() -> list[str]:
    """Return the values that `--site` accepts: the configured sites, with their default systems if they have one."""
    from crestline.client import load_sites

    return [f"{site.system}@{name}" if site.system else name for name, site in sorted(load_sites().items())]
