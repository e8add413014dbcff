"""How results are printed: plain aligned columns for people, one JSON document per line for programs."""

from __future__ import annotations

import codecs
import json
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from crestline.model.text import printable, printable_output

_UNSEEN = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""characters that JSON leaves as they are and terminals obey"""
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;]{0,32})?\Z")
_on_terminal: dict[str, TerminalText] = {}
_NARROWEST = 12
"""columns that a cut column keeps"""


def print_json(value: Any) -> None:
    """One line of JSON; model structs become objects with the names of their fields."""
    import msgspec

    line = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
    print(_UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", line), flush=True)


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
    return printable(text)


def write(piece: str | bytes, stream: str = "stdout") -> None:
    """Write a piece of a job's output or of a file, byte for byte; what drives a terminal is escaped on one.

    Args:
        stream: `stdout` or `stderr`.
    """
    target = getattr(sys, stream)
    content = piece.encode(errors="replace") if isinstance(piece, str) else piece
    if target.isatty():
        content = _on_terminal.setdefault(stream, TerminalText()).feed(content).encode(errors="replace")
    target.flush()
    target.buffer.write(content)
    target.buffer.flush()


class TerminalText:
    """Text of others, in pieces, for a terminal: colours and progress bars pass, no other control sequence does.

    A sequence that sets the title, fills the clipboard or asks the terminal for an answer, which would arrive as typed
    input, is shown instead.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, piece: bytes) -> str:
        """The next piece as it may be shown; the beginning of a sequence at its end is kept for the next one."""
        text = self._rest + self._decoder.decode(piece)
        cut = _UNFINISHED.search(text)
        text, self._rest = (text[: cut.start()], cut[0]) if cut else (text, "")
        return printable_output(text)


def note(text: str) -> None:
    """A remark for people, on stderr, where it does not mix with results."""
    print(one_line(text), file=sys.stderr, flush=True)
