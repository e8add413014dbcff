"""Slurm's tables, cut into cells so that no job name can break them.

squeue, sinfo and sacct put any text that is asked for behind each cell. Ours is new for every call, so no name,
comment or path that a user chose can hold it, whatever control characters or line breaks they have.
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
"""field -> text"""
Pieces = list[str]
"""a row as it is cut at the marks, for `Layout.cells`"""

_NOTHING = frozenset({"", "(null)", "N/A", "None", "Unknown", "NONE", "n/a", "n/s"})

_PLAIN = frozenset({
    "JobID", "State", "exit_code", "UserName", "GroupName", "Partition", "Cluster", "NumCPUs", "NumNodes", "NodeList",
    "PriorityLong", "SubmitTime", "StartTime", "EndTime", "TimeUsed", "TimeLimit",
})  # fmt: skip
"""squeue's columns that hold no text of a user's, so that one character can end them"""

_LARGE = 256 * 1024
"""bytes from which cutting leaves the event loop alone"""

_BLOCK = 64 * 1024
"""bytes that are cut in one step, during which no other thread runs"""


@dataclass(frozen=True)
class Layout:
    """How a program is asked to print its rows: each cell ends in a mark, those of a run of plain fields in `|`."""

    program: str
    fields: Sequence[str]

    @property
    def plain(self) -> int:
        """How many fields behind the first, and before the last, are plain."""
        if self.program != "squeue":
            return 0
        return sum(1 for _ in takewhile(_PLAIN.__contains__, self.fields[1:-1]))

    def arguments(self, mark: str) -> list[str]:
        """The words of the command line."""
        if self.program == "sacct":
            return ["--parsable", f"--delimiter={mark}", f"--format={','.join(self.fields)}"]
        ends = [mark, *["|"] * self.plain, *[mark] * len(self.fields)]
        pairs = zip(self.fields, ends, strict=False)
        return [f"--Format={','.join(f'{field}:{end}' for field, end in pairs)}"]

    def cut(self, output: bytes, mark: str) -> Iterator[Pieces]:
        """Cut a table into rows, block by block.

        Raises:
            GatewayUnavailableError: the last row is not whole.
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
                # Before the first cell stand the line break of the row before, and what a login shell may print.
                row[0] = row[0].rpartition("\n")[2]
                yield row
            del pieces[:whole]
        if pieces or rest.strip():
            raise _cut_off()

    def cells(self, pieces: Pieces) -> list[str]:
        """A row's cells, in the order of the fields.

        Raises:
            GatewayUnavailableError: one is missing.
        """
        cells = [pieces[0], *pieces[1].split("|", self.plain), *pieces[2:]] if self.plain else pieces
        if len(cells) != len(self.fields):
            raise _cut_off()
        return cells

    def rows(self, table: Iterable[Pieces]) -> list[Row]:
        """Rows by the names of their fields."""
        return [dict(zip(self.fields, self.cells(pieces), strict=True)) for pieces in table]


async def read_table(
    commands: SlurmCommands,
    user: str,
    layout: Layout,
    *arguments: str,
    convert: Callable[[Iterable[Pieces]], list[T]],
    time_limit: TimeLimit | None = None,
) -> list[T]:
    """What squeue, sinfo or sacct list.

    Args:
        commands: Slurm's programs.
        user: the POSIX user of the caller.
        layout: program and columns.
        arguments: further words of the command line.
        convert: converts the rows; in a thread if they are many, so that the event loop is not blocked.
        time_limit: how long the program may take; None: as long as any.

    Raises:
        GatewayUnavailableError: no answer, or one that was cut off.
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
    """As `read_table`, the rows by the names of their fields."""
    layout = Layout(program, fields)
    return await read_table(commands, user, layout, *arguments, convert=layout.rows)


def _cut_off() -> GatewayUnavailableError:
    return GatewayUnavailableError("Slurm's answer was cut off.", hint="Try again.", retry_after=1)


def text(cell: str) -> str | None:
    """A cell, None where Slurm says that there is nothing."""
    return None if cell in _NOTHING else cell


def number(cell: str) -> int | None:
    """A whole number, a time in seconds since the epoch included; None for anything else."""
    cell = cell.strip()
    digits = cell.removeprefix("-")
    return int(cell) if digits.isascii() and digits.isdigit() and len(digits) <= 18 else None


def decimal(cell: str) -> float | None:
    """A number with a fraction, None for anything else."""
    cell = cell.strip()
    return float(cell) if re.fullmatch(r"-?\d{1,15}(\.\d{1,9})?", cell, re.ASCII) else None


def seconds(cell: str) -> int | None:
    """`[days-][hours:]minutes:seconds[.fraction]` in seconds; None for `UNLIMITED` and its like."""
    match = re.fullmatch(r"(?:(\d{1,9})-)?(?:(\d{1,9}):)?(\d{1,9}):(\d{1,2})(?:\.\d+)?", cell.strip(), re.ASCII)
    if match is None:
        return None
    days, hours, minutes, rest = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def parse_exit(cell: str) -> tuple[int | None, int | None]:
    """Exit code and signal as Slurm prints them: `3:0` (sacct; squeue since 23.11), or a wait status (older squeue)."""
    code, colon, signal = cell.partition(":")
    if colon:
        return number(code), number(signal)
    status = number(cell)
    return (None, None) if status is None else exit_and_signal(status)


def exit_and_signal(status: int) -> tuple[int, int]:
    """Exit code and signal of a wait status (wait(2))."""
    return status >> 8 & 0xFF, status & 0x7F
