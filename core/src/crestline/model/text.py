"""Make text from outside safe for a terminal or a log."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(r"(\x1b\[[0-9;]{0,32}[mK])|[\x00-\x07\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""The first group has colours and the end of a line. Backspace, tab and line ends pass."""


def abbreviated(text: str, length: int) -> str:
    """Return `text`, or the beginning and the end of a text of more than `length` characters.

    Commands often name the cause of an error at the end.
    """
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


def printable(text: str, keep: str = "") -> str:
    r"""Return `text` with control and invisible characters escaped (`\x1b`), so that it cannot drive a terminal.

    Args:
        keep: characters that stay as they are, for example line ends.
    """
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text
    )


def printable_output(text: str) -> str:
    """Return a job's output with its colours and progress bars; other control characters are escaped.

    A sequence that sets a terminal's title, fills the clipboard or asks the terminal for an answer, which would arrive
    as typed input, is shown instead.
    """
    return _SEQUENCE.sub(lambda match: match[1] or printable(match[0]), text)
