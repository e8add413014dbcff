"""What travels in one binary WebSocket message of the relay: a frame of one stream.

A frame is one byte of kind, four bytes of stream number (big endian), and the payload.
"""

from __future__ import annotations

import struct

OPEN = 1  # payload: what the stream is for, UTF-8
DATA = 2
WINDOW = 3  # payload: how many more bytes the peer may send, four bytes
END = 4  # nothing more will come from this side
RESET = 5  # the stream is over, in both directions

HEAD = struct.Struct("!BI")
COUNT = struct.Struct("!I")

WINDOW_SIZE = 1 << 20
"""bytes that a side may send on a new stream before the other side grants more"""
CHUNK_SIZE = 1 << 17
"""bytes in one DATA frame at most, so that no stream holds the others up for long"""


def frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame, ready to send."""
    return HEAD.pack(kind, stream) + payload


def parse(message: bytes) -> tuple[int, int, bytes]:
    """Kind, stream number and payload of a frame.

    Raises:
        ValueError: the message is too short to be one.
    """
    try:
        kind, stream = HEAD.unpack_from(message)
    except struct.error as error:
        raise ValueError("A message of the relay is shorter than a frame's head.") from error
    return kind, stream, message[HEAD.size :]
