"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table; the columns numbered in `right` are aligned to the right."""
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    lines = [head, rule, *([cell(each) for each in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(text: str) -> str:
    """A text as one cell."""
    return " ".join(text.replace("|", r"\|").split())


def code(text: str) -> str:
    """A text that stands for itself."""
    return f"`{text}`" if text else ""
