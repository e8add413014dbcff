"""The binary WebSocket messages of the relay. Each is a frame of one stream.

A frame is one byte of kind, four bytes of stream number (big endian), and the payload.
"""

from __future__ import annotations

import struct

OPEN = 1  # payload: the purpose of the stream, UTF-8
DATA = 2
WINDOW = 3  # payload: number of additional bytes that the peer can send, four bytes
END = 4  # this side sends no more data
RESET = 5  # the stream is over, in both directions

HEAD = struct.Struct("!BI")
COUNT = struct.Struct("!I")

WINDOW_SIZE = 1 << 20
"""Bytes that a side can send on a new stream before the other side grants more."""
CHUNK_SIZE = 1 << 17
"""Maximum bytes of data in one frame, so that no stream blocks the others for long."""


def frame(kind: int, stream: int, payload: bytes = b"") -> bytes:
    """Encode a frame."""
    return HEAD.pack(kind, stream) + payload


def parse(message: bytes) -> tuple[int, int, bytes]:
    """Return kind, stream number and payload of a frame.

    Raises:
        ValueError: the message is too short.
    """
    try:
        kind, stream = HEAD.unpack_from(message)
    except struct.error as error:
        raise ValueError("A message of the relay is shorter than a frame's head.") from error
    return kind, stream, message[HEAD.size :]
