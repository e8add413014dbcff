"""Tables of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """A table without its empty columns; the columns numbered in `right` are aligned to the right."""
    rows = list(rows)
    kept = [column for column in range(len(head)) if any(row[column] for row in rows)]
    head, rows = [head[column] for column in kept], [[row[column] for column in kept] for row in rows]
    right = [kept.index(column) for column in right if column in kept]
    rule = ["---:" if column in right else "---" for column in range(len(head))]
    lines = [head, rule, *([cell(each) for each in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(text: str) -> str:
    """A text as one cell."""
    return " ".join(text.replace("|", r"\|").split())


def code(text: str) -> str:
    """A text that stands for itself."""
    return f"`{text}`" if text else ""
