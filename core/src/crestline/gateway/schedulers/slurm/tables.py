"""Splits Slurm's tables into cells so that job names cannot break them.

squeue, sinfo and sacct can print a given text after each cell. The gateway uses a new mark for every call, so no name,
comment or path of a user can contain it, even with control characters or line breaks.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TypeVar

from crestline.cooperative import in_thread
from crestline.gateway.hosts import MAX_OUTPUT
from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.gateway.schedulers.time_limit import TimeLimit
from crestline.model import GatewayUnavailableError

T = TypeVar("T")
Row = dict[str, str]
"""Field -> text."""
Pieces = list[str]
"""A row split at the marks, for `Layout.cells`."""

_NOTHING = frozenset({"", "(null)", "N/A", "None", "Unknown", "NONE", "n/a", "n/s"})

_PLAIN = frozenset({
    "JobID", "State", "exit_code", "UserName", "GroupName", "Partition", "Cluster", "NumCPUs", "NumNodes", "NodeList",
    "PriorityLong", "SubmitTime", "StartTime", "EndTime", "TimeUsed", "TimeLimit",
})  # fmt: skip
"""squeue's columns without a user's text, which one character can separate."""

_LARGE = 256 * 1024
"""Bytes from which output is split outside the event loop."""

_BLOCK = 64 * 1024
"""Bytes that are split in one step, during which no other thread runs."""


@dataclass(frozen=True)
class Layout:
    """The format of a program's rows: a mark after each cell, and `|` within a run of plain fields."""

    program: str
    fields: Sequence[str]

    @property
    def plain(self) -> int:
        """Number of plain fields after the first and before the last."""
        if self.program != "squeue":
            return 0
        return sum(1 for _ in takewhile(_PLAIN.__contains__, self.fields[1:-1]))

    def arguments(self, mark: str) -> list[str]:
        """Return the arguments of the command line."""
        if self.program == "sacct":
            return ["--parsable", f"--delimiter={mark}", f"--format={','.join(self.fields)}"]
        ends = [mark, *["|"] * self.plain, *[mark] * len(self.fields)]
        pairs = zip(self.fields, ends, strict=False)
        return [f"--Format={','.join(f'{field}:{end}' for field, end in pairs)}"]

    def cut(self, output: bytes, mark: str) -> Iterator[Pieces]:
        """Split a table into rows, block by block.

        Raises:
            GatewayUnavailableError: the last row is incomplete.
        """
        end, width = mark.encode(), len(self.fields) - self.plain
        pieces: Pieces = []
        rest = ""
        start = 0
        while start < len(output):
            stop = output.find(end, start + _BLOCK)
            stop = len(output) if stop < 0 else stop + len(end)
            *some, rest = output[start:stop].decode(errors="replace").split(mark)
            start = stop
            pieces += some
            whole = len(pieces) // width * width
            for begin in range(0, whole, width):
                row = pieces[begin : begin + width]
                # The first cell follows the line break of the previous row, and output of a login shell.
                row[0] = row[0].rpartition("\n")[2]
                yield row
            del pieces[:whole]
        if pieces or rest.strip():
            raise _cut_off()

    def cells(self, pieces: Pieces) -> list[str]:
        """Return a row's cells in the order of the fields.

        Raises:
            GatewayUnavailableError: a cell is missing.
        """
        cells = [pieces[0], *pieces[1].split("|", self.plain), *pieces[2:]] if self.plain else pieces
        if len(cells) != len(self.fields):
            raise _cut_off()
        return cells

    def rows(self, table: Iterable[Pieces]) -> list[Row]:
        """Return rows by the names of their fields."""
        return [dict(zip(self.fields, self.cells(pieces), strict=True)) for pieces in table]


async def read_table(
    commands: SlurmCommands,
    user: str,
    layout: Layout,
    *arguments: str,
    convert: Callable[[Iterable[Pieces]], list[T]],
    time_limit: TimeLimit | None = None,
) -> list[T]:
    """Return the table that squeue, sinfo or sacct prints.

    Args:
        commands: Slurm's programs.
        user: the POSIX user of the caller.
        layout: program and columns.
        arguments: further arguments.
        convert: converts the rows; runs in a thread if there are many, so that the event loop is not blocked.
        time_limit: how long the program may take; None: the default.

    Raises:
        GatewayUnavailableError: the program failed, or its output is truncated.
    """
    mark = f"@{secrets.token_urlsafe(9)}"
    words = ("--noheader", *layout.arguments(mark), *arguments)
    output = await commands.read(user, layout.program, *words, time_limit=time_limit, max_output=MAX_OUTPUT)
    if len(output) > _LARGE:
        return await asyncio.to_thread(lambda: convert(in_thread(layout.cut(output, mark))))
    return convert(layout.cut(output, mark))


async def read_rows(
    commands: SlurmCommands, user: str, program: str, fields: Sequence[str], *arguments: str
) -> list[Row]:
    """As `read_table`, with rows by the names of their fields."""
    layout = Layout(program, fields)
    return await read_table(commands, user, layout, *arguments, convert=layout.rows)


def _cut_off() -> GatewayUnavailableError:
    return GatewayUnavailableError("Slurm's answer was cut off.", hint="Try again.", retry_after=1)


def text(cell: str) -> str | None:
    """Return a cell; None if Slurm prints that it is empty."""
    return None if cell in _NOTHING else cell


def number(cell: str) -> int | None:
    """Return an integer, also for times in seconds since the epoch; None for anything else."""
    cell = cell.strip()
    digits = cell.removeprefix("-")
    return int(cell) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def decimal(cell: str) -> float | None:
    """Return a number with a fraction; None for anything else."""
    cell = cell.strip()
    return float(cell) if re.fullmatch(r"-?\d{1,15}(\.\d{1,9})?", cell, re.ASCII) else None


def seconds(cell: str) -> int | None:
    """Convert `[days-][hours:]minutes:seconds[.fraction]` to seconds; None for `UNLIMITED` and similar values."""
    match = re.fullmatch(r"(?:(\d{1,9})-)?(?:(\d{1,9}):)?(\d{1,9}):(\d{1,2})(?:\.\d+)?", cell.strip(), re.ASCII)
    if match is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def parse_exit(cell: str) -> tuple[int | None, int | None]:
    """Parse exit code and signal: `3:0` (sacct; squeue since 23.11), or a wait status (older squeue)."""
    code, colon, signal = cell.partition(":")
    if colon:
        return number(code), number(signal)
    status = number(cell)
    return (None, None) if status is None else exit_and_signal(status)


def exit_and_signal(status: int) -> tuple[int, int]:
    """Return exit code and signal of a wait status (wait(2))."""
    return status >> 8 & 0xFF, status & 0x7F
