"""What the job's log in GitLab shows: the job's own bytes, and remarks of the driver."""

from __future__ import annotations

import os

_GREY, _RED, _END = b"\x1b[0;36m", b"\x1b[31;1m", b"\x1b[0m"


def write(content: bytes) -> None:
    """The job's own output, byte for byte.

    Raises:
        BrokenPipeError: the runner is gone.
    """
    while content:
        content = content[os.write(1, content) :]


def remark(text: str) -> None:
    """Something worth knowing."""
    write(_GREY + _plain(text) + _END + b"\n")


def failure(text: str) -> None:
    """Why it failed."""
    write(_RED + _plain(text) + _END + b"\n")


def _plain(text: str) -> bytes:
    """Without control characters: names that others chose must not drive the log."""
    shown = "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)
    return shown.encode(errors="backslashreplace")
