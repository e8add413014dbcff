"""What the job's log in GitLab shows: the job's own bytes, and remarks of the driver."""

from __future__ import annotations

import os

from crestline.model.text import printable

_GREY, _RED, _END = b"\x1b[0;36m", b"\x1b[31;1m", b"\x1b[0m"


def write(content: bytes) -> None:
    """The job's own output, byte for byte.

    Raises:
        BrokenPipeError: the runner is gone.
    """
    while content:
        content = content[os.write(1, content) :]


def remark(text: str) -> None:
    """Write a line for the user into the job's log."""
    write(_GREY + plain(text).encode() + _END + b"\n")


def failure(text: str) -> None:
    """Write an error, with what to do about it, into the job's log."""
    write(_RED + plain(text).encode() + _END + b"\n")


def plain(text: str) -> str:
    """Text with control characters escaped: names that others chose must not drive the log."""
    return printable(text)
