"""One open backend, with its monitor and its connections, for everybody in an event loop who means the same."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from crestline.client.backends.base import Backend


@dataclass
class _Share:
    backend: Backend
    users: int = 0
    opened: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


_shares: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Share]] = weakref.WeakKeyDictionary()


async def acquire(key: Hashable, make: Callable[[], Backend]) -> Backend:
    """The open backend for `key`, made and opened by the first who asks; give it back with `release`.

    Raises:
        CrestlineError: what opening it raises.
    """
    shares = _shares.setdefault(asyncio.get_running_loop(), {})
    share = shares.get(key)
    if share is None:
        share = shares[key] = _Share(make())
    share.users += 1
    try:
        async with share.lock:
            if not share.opened:
                await share.backend.open()
                share.opened = True
    except BaseException:
        await release(key)
        raise
    return share.backend


async def release(key: Hashable) -> None:
    """The last one who gives it back closes it."""
    shares = _shares[asyncio.get_running_loop()]
    share = shares[key]
    share.users -= 1
    if share.users == 0:
        del shares[key]
        await share.backend.close()
