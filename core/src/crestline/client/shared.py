"""One open connection for all users in an event loop that mean the same system and identity."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from crestline.client.connection import Connection


@dataclass
class _Share:
    connection: Connection
    users: int = 0
    opened: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


_shares: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Hashable, _Share]] = weakref.WeakKeyDictionary()


async def acquire(key: Hashable, make: Callable[[], Connection]) -> Connection:
    """Return the open connection for `key`, which the first caller opens; give it back with `release`.

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
                await share.connection.open()
                share.opened = True
    except BaseException:
        await release(key)
        raise
    return share.connection


async def release(key: Hashable) -> None:
    """The last one who gives it back closes it."""
    shares = _shares[asyncio.get_running_loop()]
    share = shares[key]
    share.users -= 1
    if share.users == 0:
        del shares[key]
        await share.connection.close()
