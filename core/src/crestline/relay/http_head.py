"""The head of an HTTP/1.1 request that passes through: read once to find its way, otherwise left as it is."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from crestline.relay.mux import Stream

MAX_HEAD = 64 * 1024
READ_TIMEOUT = 30.0
END = b"\r\n\r\n"


class BadHeadError(ValueError):
    """Not the head of an HTTP/1.1 request."""


@dataclass(frozen=True)
class Head:
    """Request line and header lines, without their line ends."""

    method: str
    target: str
    lines: tuple[str, ...]

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def for_one_request(self, host: str | None = None) -> bytes:
        """The head as it goes on: a connection carries this one request, so that no later one takes its way unseen.

        An upgrade (a WebSocket) keeps its headers: the connection is its own from then on.

        Args:
            host: replaces the header `Host`.
        """
        lines = list(self.lines)
        if not any(_name(line) == "upgrade" for line in lines):
            lines = _closing(lines)
        if host is not None:
            lines = [f"Host: {host}" if _name(line) == "host" else line for line in lines]
        return "\r\n".join([f"{self.method} {self.target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def _closing(lines: list[str]) -> list[str]:
    kept = [line for line in lines if _name(line) not in ("connection", "keep-alive")]
    return [*kept, "Connection: close"]


def _name(line: str) -> str:
    return line.partition(":")[0].strip().lower()


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read one.

    Raises:
        BadHeadError: it is none, is too long, or took too long.
    """
    try:
        raw = await asyncio.wait_for(reader.readuntil(END), READ_TIMEOUT)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError) as error:
        raise BadHeadError("No head of a request within limits.") from error
    return parse_head(raw)


def parse_head(raw: bytes) -> Head:
    """A head from its bytes, the empty line included.

    Raises:
        BadHeadError: it is none.
    """
    first, *lines = raw.removesuffix(END).decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[1].startswith("/") or not parts[2].startswith("HTTP/1."):
        raise BadHeadError("Not an HTTP/1.1 request for a path.")
    return Head(parts[0], parts[1], tuple(lines))


async def closing_answer(stream: Stream) -> bytes:
    """The beginning of the answer on a stream, which says that the connection closes after it.

    Servers may leave that out and close all the same; a proxy would then use the connection once more. The head of a
    switched protocol, and what is no HTTP, goes on as it is.
    """
    passed, received = b"", b""
    while True:
        while END not in received:
            data = await stream.read()
            received += data
            if not data or len(received) > MAX_HEAD:
                return passed + received
        raw, _, received = received.partition(END)
        first, *lines = raw.decode("latin-1").split("\r\n")
        status = first.partition(" ")[2][:3]
        if status.startswith("1") and status != "101":  # an interim answer, before the real one
            passed += raw + END
            continue
        if status != "101":
            lines = _closing(lines)
        return passed + "\r\n".join([first, *lines, "", ""]).encode("latin-1") + received


def answer(status: int, reason: str, text: str, *headers: str) -> bytes:
    """A whole answer of the relay's own."""
    body = text.encode()
    lines = [
        f"HTTP/1.1 {status} {reason}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def unavailable(text: str) -> bytes:
    """The answer where no job's server can be reached now."""
    return answer(503, "Service Unavailable", text, "Retry-After: 5")
