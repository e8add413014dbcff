"""An event loop that does nothing, in a process of its own: how long it stalls is what the machine does to all loops.

A line by stdin is answered by the seconds of the longest stall since the last line.
"""

from __future__ import annotations

import asyncio
import sys
import time


async def main() -> None:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0.01)
            longest = max(longest, time.perf_counter() - begun - 0.01)

    watching = asyncio.create_task(watch())
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(longest, flush=True)
        longest = 0.0
    watching.cancel()


if __name__ == "__main__":
    asyncio.run(main())
