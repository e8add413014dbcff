"""How results are printed: plain aligned columns for people, one JSON document per line for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_NARROWEST = 12
"""columns that a cut column keeps"""


def print_json(value: Any) -> None:
    """One line of JSON; model structs become objects with the names of their fields."""
    import msgspec

    print(json.dumps(msgspec.to_builtins(value), ensure_ascii=False), flush=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Aligned columns; those named in `right` are aligned there.

    On a terminal that is too narrow, the widest columns are cut (`…`), so that a row stays a line; elsewhere never.
    """
    from rich.cells import cell_len, set_cell_size  # characters of East Asia are two columns wide

    cells = [[one_line("" if cell is None else str(cell)) for cell in row] for row in rows]
    table = [list(heads), *cells]
    widths = [max(cell_len(row[column]) for row in table) for column in range(len(heads))]
    if sys.stdout.isatty():
        room = shutil.get_terminal_size().columns - 2 * (len(heads) - 1)
        while sum(widths) > room and max(widths) > _NARROWEST:
            widths[widths.index(max(widths))] -= 1
    for row in table:
        columns = []
        for head, cell, width in zip(heads, row, widths, strict=True):
            shown = cell if cell_len(cell) <= width else f"{set_cell_size(cell, width - 1)}…"
            padding = " " * (width - cell_len(shown))
            columns.append(padding + shown if head in right else shown + padding)
        print("  ".join(columns).rstrip())


def one_line(text: str) -> str:
    """`text` with control characters escaped: names that others chose must not drive the terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def write(piece: str | bytes) -> None:
    """Write a piece of a job's output or of a file to stdout, byte for byte."""
    sys.stdout.buffer.write(piece.encode() if isinstance(piece, str) else piece)
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """A remark for people, on stderr, where it does not mix with results."""
    print(one_line(text), file=sys.stderr, flush=True)
