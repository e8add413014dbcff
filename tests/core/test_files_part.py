"""The unfinished form of a download."""

from __future__ import annotations

import resource
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crestline.client.files.local import CHUNK, PartFile

pytestmark = pytest.mark.anyio


async def _content(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield bytes([number]) * CHUNK


async def test_what_is_written_while_more_is_received_stays_in_order(tmp_path: Path) -> None:
    with PartFile(tmp_path / "file", "identity") as part:
        counts = [count async for count in part.append(_content(7))]
        assert sum(counts) == part.size == 7 * CHUNK
        part.publish(executable=False)
    assert (tmp_path / "file").read_bytes() == b"".join(bytes([number]) * CHUNK for number in range(7))


@pytest.mark.parametrize("count", [4, 9])  # the last write fails, or one before it
async def test_a_write_that_fails_is_told_and_nothing_is_written_behind_it(tmp_path: Path, count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = 3 * CHUNK + 1000
    with PartFile(tmp_path / "file", "identity") as part:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
        try:
            with pytest.raises(OSError, match="too large"):
                async for _ in part.append(_content(count)):
                    pass
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert part.path.read_bytes() == b"".join(bytes([number]) * CHUNK for number in range(4))[: part.size]
