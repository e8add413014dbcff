"""Make text from outside safe for a terminal or a log."""

from __future__ import annotations


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
