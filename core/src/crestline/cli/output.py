"""How results are printed: plain aligned columns for people, one JSON document per line for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_json(value: Any) -> None:
    """One line of JSON; model structs become objects with the names of their fields."""
    import msgspec

    print(json.dumps(msgspec.to_builtins(value), ensure_ascii=False), flush=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Aligned columns, never cut; those named in `right` are aligned there."""
    cells = [[one_line("" if cell is None else str(cell)) for cell in row] for row in rows]
    table = [list(heads), *cells]
    widths = [max(len(row[column]) for row in table) for column in range(len(heads))]
    for row in table:
        print(
            "  ".join(
                cell.rjust(width) if head in right else cell.ljust(width)
                for head, cell, width in zip(heads, row, widths, strict=True)
            ).rstrip()
        )


def one_line(text: str) -> str:
    """`text` with control characters escaped: names that others chose must not drive the terminal."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def write(piece: str | bytes) -> None:
    """A piece of somebody's output, byte for byte."""
    sys.stdout.buffer.write(piece.encode() if isinstance(piece, str) else piece)
    sys.stdout.buffer.flush()


def note(text: str) -> None:
    """A remark for people, on stderr, where it does not mix with results."""
    print(one_line(text), file=sys.stderr, flush=True)
