"""The job's log in GitLab: the job's own output, and messages of the driver."""

from __future__ import annotations

import os

from crestline.model.text import printable

_GREY, _RED, _END = b"\x1b[0;36m", b"\x1b[31;1m", b"\x1b[0m"


def write(content: bytes) -> None:
    """Write the job's own output unchanged.

    Raises:
        BrokenPipeError: the runner has ended.
    """
    while content:
        content = content[os.write(1, content) :]


def remark(text: str) -> None:
    """Write a message for the user into the job's log."""
    write(_GREY + plain(text).encode() + _END + b"\n")


def failure(text: str) -> None:
    """Write an error, with what to do about it, into the job's log."""
    write(_RED + plain(text).encode() + _END + b"\n")


def plain(text: str) -> str:
    """Return text with control characters escaped, because names of others must not control the log."""
    return printable(text)
