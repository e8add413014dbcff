"""What a job writes, line by line while it runs: stdout and stderr together, each line once."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping

import msgspec

from crestline.client.logs.follow import follow_all
from crestline.client.logs.sources import Source

_LONGEST = 8192
"""characters of a line; a progress bar that never ends its line is shown in pieces"""

Turn = Callable[[], Awaitable[None]]


class OutputLine(msgspec.Struct, frozen=True, gc=False):
    """A line, without its end.

    Attributes:
        stream: `stdout` or `stderr`; what goes into one file is `stdout`.

    >>> OutputLine("stdout", "Converged after 12 steps").text
    'Converged after 12 steps'
    """

    stream: str
    text: str


class OutputPosition(msgspec.Struct, frozen=True, gc=False):
    """Where one stream stands: behind the text that was read last, the end of which, `begun`, was not handed out."""

    position: str
    begun: str = ""


class JobOutput(AsyncIterator[OutputLine]):
    """The lines of a job's output; made by `System.output`.

    Example::

        async for line in daint.output(job):
            print(f"{line.stream}: {line.text}")
    """

    def __init__(
        self, sources: Mapping[str, Source], finished: Callable[[], bool], position: str | None, throttle: Turn | None
    ) -> None:
        self._sources = dict(sources)
        # Lines that were read and not yet handed out, the last of them unended.
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
