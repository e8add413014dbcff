"""Print results: aligned columns for people, one JSON document per line for programs."""

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
"""Characters that JSON does not escape but terminals interpret."""
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;]{0,32})?\Z")
_on_terminal: dict[str, TerminalText] = {}
_NARROWEST = 12
"""Minimum width of a truncated column."""


def print_json(value: Any) -> None:
    """Print one line of JSON. Model structs become objects with the names of their fields."""
    import msgspec

    line = json.dumps(msgspec.to_builtins(value), ensure_ascii=False)
    print(_UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", line), flush=True)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print aligned columns. Those named in `right` are right-aligned.

    On a terminal that is too narrow, the widest columns are truncated (`…`), so that each row fits on one line. Output
    to a file or a pipe is never truncated.
    """
    from rich.cells import cell_len, set_cell_size  # East Asian characters are two columns wide

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
    """Escape control characters in `text`: names that other users chose must not control the terminal."""
    return printable(text)


def write(piece: str | bytes, stream: str = "stdout") -> None:
    """Write a chunk of a job's output or of a file byte for byte. On a terminal, control sequences are escaped.

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
    """Filter chunks of untrusted text for a terminal. Only colours and progress bars may use control sequences.

    Escapes sequences that set the title, fill the clipboard, or make the terminal send a reply, which would arrive as
    typed input.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def feed(self, piece: bytes) -> str:
        """Return the next chunk, filtered. An incomplete sequence at its end is held back until the next call."""
        text = self._rest + self._decoder.decode(piece)
        cut = _UNFINISHED.search(text)
        text, self._rest = (text[: cut.start()], cut[0]) if cut else (text, "")
        return printable_output(text)


def note(text: str) -> None:
    """Print a remark on stderr, where it does not mix with results."""
    print(one_line(text), file=sys.stderr, flush=True)
