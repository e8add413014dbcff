"""Changes whose answer is lost: the system is asked whether they happened before they are sent again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from crestline.client.backends.base import FileEndpoints
from crestline.client.backends.messages import NOTHING_BEGAN, UnfinishedError
from crestline.model import CrestlineError, FileMissingError, GatewayUnavailableError

T = TypeVar("T")

_TRIES = 3


async def settle(
    send: Callable[[], Awaitable[T]], is_done: Callable[[], Awaitable[bool]], *, final: tuple[int, ...] = ()
) -> T | None:
    """Carry out a change that a second request may refuse because the first one did it.

    Args:
        send: one request that changes something, not repeated by itself.
        is_done: whether the change can be seen.
        final: statuses that say that the change has failed.

    Returns:
        what `send` returns; None: a try did it whose answer is lost.

    Raises:
        CrestlineError: the last try failed, and the change cannot be seen.
    """
    is_lost = False
    for is_last in (*[False] * (_TRIES - 1), True):
        try:
            return await send()
        except (*NOTHING_BEGAN, UnfinishedError):
            raise
        except CrestlineError as error:
            is_open = isinstance(error, GatewayUnavailableError) and error.status not in final
            is_lost = is_lost or is_open
            if is_lost and await is_done():
                return None
            if is_last or not is_open:
                raise
    raise AssertionError("unreachable")


async def exists(files: FileEndpoints, path: str) -> bool:
    """Whether the system has something of this name, a link without a target included."""
    try:
        await files.list(path)
    except FileMissingError:
        return False
    return True


async def never() -> bool:
    """For a change that may happen twice."""
    return False


async def is_missing(files: FileEndpoints, path: str) -> bool:
    """Whether the system has nothing of this name."""
    return not await exists(files, path)


async def is_link(files: FileEndpoints, path: str, target: str) -> bool:
    """Whether `path` is a symbolic link to `target`."""
    return await exists(files, path) and [file.link_target for file in await files.list(path)] == [target]
