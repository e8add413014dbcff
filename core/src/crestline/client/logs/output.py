"""The output of a running job, line by line, with stdout and stderr together."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

import msgspec

from crestline.client.logs.follow import follow_all
from crestline.client.logs.sources import Source

_LONGEST = 8192
"""longest line in characters; a progress bar without line ends is returned in pieces"""

Turn = Callable[[], Awaitable[None]]


class OutputLine(msgspec.Struct, frozen=True, gc=False):
    """One line of a job's output.

    Attributes:
        stream: `stdout` or `stderr`; `stdout` if both go into one file.
        text: the line without its end.

    >>> OutputLine("stdout", "Converged after 12 steps").text
    'Converged after 12 steps'
    """

    stream: str
    text: str


class OutputPosition(msgspec.Struct, frozen=True, gc=False):
    """Position in one stream, after the text read last. `begun` is the end of that text, not yet returned as a line."""

    position: str
    begun: str = ""


class JobOutput(AsyncIterator[OutputLine]):
    """Iterator over the lines of a job's output; `System.output` returns it.

    Example::

        async for line in daint.output(job):
            print(f"{line.stream}: {line.text}")
    """

    def __init__(
        self, sources: Mapping[str, Source], finished: Callable[[], bool], position: str | None, throttle: Turn | None
    ) -> None:
        self._sources = dict(sources)
        # Lines that were read and not yet returned; the last one is incomplete.
        self._held: dict[str, deque[str]] = {stream: deque([""]) for stream in sources}
        stood = msgspec.json.decode(position, type=dict[str, OutputPosition]) if position else {}
        for stream, source in self._sources.items():
            if stream in stood:
                source.seek(stood[stream].position)
                self._held[stream] = deque([stood[stream].begun])
        self._lines = self._follow(finished, throttle)

    @property
    def position(self) -> str:
        """Position after the line returned last. Another process passes it to `System.output` to continue."""
        stands = {
            stream: OutputPosition(source.position, "\n".join(self._held[stream]))
            for stream, source in self._sources.items()
        }
        return msgspec.json.encode(stands).decode()

    def __aiter__(self) -> JobOutput:
        return self

    async def __anext__(self) -> OutputLine:
        return await anext(self._lines)

    async def aclose(self) -> None:
        """Stop following."""
        await self._lines.aclose()

    async def _follow(self, finished: Callable[[], bool], throttle: Turn | None) -> AsyncGenerator[OutputLine]:
        texts = follow_all(self._sources, finished=finished, throttle=throttle)
        try:
            async for stream, text in texts:
                held = self._held[stream]
                held.extend((held.pop() + text).split("\n"))
                while len(held) > 1 or len(held[0]) > _LONGEST:
                    line = held.popleft()
                    if not held:
                        held.append(line[_LONGEST:])
                        line = line[:_LONGEST]
                    yield OutputLine(stream, line)
        finally:
            await texts.aclose()
        for stream, held in self._held.items():
            if line := held.pop():
                held.append("")
                yield OutputLine(stream, line)
