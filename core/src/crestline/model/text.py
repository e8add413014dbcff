"""Text of other people on its way to a terminal or a log."""

from __future__ import annotations


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
