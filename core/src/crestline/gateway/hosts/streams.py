"""Bytes on their way to a file, and the name they have until they are all there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator

BLOCK = 1024 * 1024
"""bytes that move per step"""


async def blocks(chunks: AsyncIterator[bytes], size: int = BLOCK) -> AsyncIterator[bytes]:
    """The same bytes in pieces of at least `size`, the last one smaller: fewer steps."""
    waiting: list[bytes] = []
    held = 0
    async for chunk in chunks:
        waiting.append(chunk)
        held += len(chunk)
        if held >= size:
            yield b"".join(waiting)
            waiting, held = [], 0
    if held:
        yield b"".join(waiting)


def temporary_of(target: str, identifier: str) -> str:
    """The temporary name for `target`, in the same directory, the same for the same identifier."""
    directory, name = os.path.split(target)
    digest = hashlib.sha256(os.fsencode(f"{name}\0{identifier}")).hexdigest()[:32]
    return os.path.join(directory, f".crestline-{digest}.part")
