"""Follow a text file on a system while a job writes it. Each character is returned exactly once."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

import anyio

from crestline.client.logs.sources import Source
from crestline.client.streams import closing
from crestline.model import FileMissingError, GatewayUnavailableError, RateLimitedError

# A shared file system may show a job's last lines late: after the job's end so many reads in a row must bring nothing.
_QUIET_READS = 2
_ENDED_PAUSE = 0.1
"""seconds between those, since a task or a command ends after them"""


def follow(
    source: Source,
    *,
    finished: Callable[[], bool | Awaitable[bool]],
    position: str | None = None,
    interval: float = 0.5,
    max_interval: float = 5.0,
) -> Follower:
    """Follow a file until `finished` returns True and the end of the file is reached.

    The file may appear later. If it never appears, the iteration ends without text once `finished` returns True. If the
    file became shorter or was replaced (a requeued job), it is read again from its beginning. If the gateway does not
    answer, the follower waits without limit, and neither loses nor repeats text.

    On a Crestline gateway, text arrives as it is written. The byte ranges of plain FirecREST are lossy, so the follower
    requests whole lines by number there. A last line without newline arrives once the job has ended.

    Args:
        source: the file.
        finished: called before every read. True if no process writes to the file any more.
        position: `position` of an earlier `Follower`. None: the beginning.
        interval: seconds between two reads while text arrives; grows to `max_interval` while none does.
        max_interval: longest time between two reads, in seconds.

    Raises:
        InvalidRequestError: `position` comes from another kind of gateway.
    """
    if position:
        source.seek(position)
    return Follower(source, finished, interval, max_interval)


class Follower(AsyncIterator[str]):
    """Iterator over the text of a followed file; `System.follow` returns it.

    Example::

        async for text in daint.follow("/scratch/u/run1/slurm-4711.out", job="4711"):
            print(text, end="")
    """

    def __init__(
        self, source: Source, finished: Callable[[], bool | Awaitable[bool]], interval: float, max_interval: float
    ) -> None:
        self._source = source
        self._texts = follow_all({"": source}, finished=finished, interval=interval, max_interval=max_interval)

    @property
    def position(self) -> str:
        """Position after the text returned last. Another process that passes it to `follow` continues from there."""
        return self._source.position

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> str:
        return (await anext(self._texts))[1]

    async def aclose(self) -> None:
        await self._texts.aclose()


async def follow_all(
    sources: Mapping[str, Source],
    *,
    finished: Callable[[], bool | Awaitable[bool]],
    throttle: Callable[[], Awaitable[None]] | None = None,
    interval: float = 0.5,
    max_interval: float = 5.0,
) -> AsyncGenerator[tuple[str, str]]:
    """Iterate over name and new text of several files, until the end of all of them; otherwise as `follow`.

    Args:
        throttle: awaited before each request, to limit requests of several callers.
    """
    pause = interval
    quiet = 0
    while quiet < _QUIET_READS:
        answer = finished()
        over = await answer if inspect.isawaitable(answer) else answer
        found = False
        trouble: GatewayUnavailableError | RateLimitedError | None = None
        for name, source in sources.items():
            if throttle is not None:
                await throttle()
            brought = False
            try:
                async with closing(source.read()) as texts:
                    async for text in texts:
                        brought = True
                        yield name, text
            except FileMissingError:
                pass
            except (GatewayUnavailableError, RateLimitedError) as error:
                trouble = error
            if throttle is not None and brought:
                await throttle()
            found = found or brought
        if trouble is not None:
            await anyio.sleep(trouble.retry_after or pause)
            pause = min(pause * 2, max_interval)
            continue
        pause = min(interval, _ENDED_PAUSE) if over else interval if found else min(pause * 1.5, max_interval)
        quiet = quiet + 1 if over and not found else 0
        if quiet < _QUIET_READS:
            await anyio.sleep(pause)
    for name, source in sources.items():
        if rest := source.rest():
            yield name, rest
