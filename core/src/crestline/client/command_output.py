"""Programs on this machine whose output the client reads: bounded in time and size."""

from __future__ import annotations

import select
import subprocess
from collections.abc import Sequence
from pathlib import Path

from crestline import clock

MAX_OUTPUT = 64 * 1024
"""bytes of standard output"""


def read_command(argv: Sequence[str], *, timeout: float, directory: Path | None = None) -> tuple[int, bytes]:
    """Run a program without input and read its standard output; standard error is discarded.

    Args:
        argv: the program and its arguments; no shell sees them.
        timeout: seconds until the program is killed.
        directory: where it runs; None: in the working directory.

    Returns:
        its exit status and its output.

    Raises:
        OSError: it cannot be run.
        TimeoutError: its output did not end within `timeout`.
        ValueError: it wrote more than `MAX_OUTPUT`, or an argument cannot be passed on.
    """
    output = bytearray()
    deadline = clock.monotonic() + timeout
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=directory, bufsize=0
    ) as process:
        ready = select.poll()
        if pipe := process.stdout:
            ready.register(pipe)
        try:
            # A program that it started may hold the pipe, so the read must not block.
            while ready.poll(max(0.0, deadline - clock.monotonic()) * 1000):
                if pipe is None or not (chunk := pipe.read(MAX_OUTPUT)):
                    return process.wait(max(0.0, deadline - clock.monotonic())), bytes(output)
                output += chunk
                if len(output) > MAX_OUTPUT:
                    raise ValueError(f"more than {MAX_OUTPUT} bytes of output")
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()  # does nothing if it has ended
        raise TimeoutError
