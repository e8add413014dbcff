"""Batcher what several jobs need at the same time, on virtual time."""

from __future__ import annotations

import asyncio

from crestline.testing.simulation import VirtualEventLoop
from crestline_reframe.batcher import Batcher


def test_the_last_items_wait_for_no_others() -> None:
    """Items that came slowly make the gathering wait longer for the next ones, unless these are all."""
    carried: list[tuple[list[int], float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()

        async def carry(items: list[int]) -> None:
            carried.append((items, round(loop.time() - start, 2)))

        gathering = Batcher(carry, quiet=0.1, are_all=lambda items: 3 in items)
        adding = []
        for item in range(4):
            adding.append(asyncio.create_task(gathering.add(item)))
            if item != 3:
                await asyncio.sleep(0.25)
        await asyncio.gather(*adding)

    loop = VirtualEventLoop()
    loop.run_until_complete(main())
    loop.close()
    assert carried == [([0], 0.1), ([1, 2, 3], 0.85)]
