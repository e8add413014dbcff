"""Slurm's tables, cut into cells so that no job name can break them.

squeue, sinfo and sacct put any text that is asked for behind each cell. Ours is new for every call, so no name,
comment or path that a user chose can hold it, whatever control characters or line breaks they have.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable, Sequence
from typing import TypeVar

from crestline.gateway.schedulers.slurm.commands import SlurmCommands
from crestline.model import GatewayUnavailableError

T = TypeVar("T")
Row = dict[str, str]
"""field -> text"""

_NOTHING = frozenset({"", "(null)", "N/A", "None", "Unknown", "NONE", "n/a", "n/s"})

_LARGE = 256 * 1024
"""bytes from which cutting leaves the event loop alone"""


async def read_table(
    commands: SlurmCommands,
    user: str,
    program: str,
    fields: Sequence[str],
    *arguments: str,
    convert: Callable[[list[Row]], list[T]],
) -> list[T]:
    """What squeue, sinfo or sacct list.

    Args:
        commands: Slurm's programs.
        user: the POSIX user of the caller.
        program: which of the three.
        fields: the columns.
        arguments: further words of the command line.
        convert: converts the rows; in a thread if they are many, so that the event loop is not blocked.

    Raises:
        GatewayUnavailableError: no answer, or one that was cut off.
    """
    mark = f"@{secrets.token_hex(8)}@"
    if program == "sacct":
        layout = ["--parsable", f"--delimiter={mark}", f"--format={','.join(fields)}"]
    else:
        layout = [f"--Format={','.join(f'{field}:{mark}' for field in fields)}"]
    output = await commands.read(user, program, "--noheader", *layout, *arguments)
    if len(output) > _LARGE:
        return await asyncio.to_thread(lambda: convert(cut(output, mark, fields)))
    return convert(cut(output, mark, fields))


async def read_rows(
    commands: SlurmCommands, user: str, program: str, fields: Sequence[str], *arguments: str
) -> list[Row]:
    """As `read_table`, the rows as they are."""
    return await read_table(commands, user, program, fields, *arguments, convert=list)


def cut(output: bytes, mark: str, fields: Sequence[str]) -> list[Row]:
    """Cut a table whose every cell is followed by `mark`, every row by a line break.

    Raises:
        GatewayUnavailableError: the last row is not whole.
    """
    *cells, rest = output.decode(errors="replace").split(mark)
    width = len(fields)
    if len(cells) % width or rest.strip():
        raise GatewayUnavailableError("Slurm's answer was cut off.", hint="Try again.", retry_after=1)
    rows = []
    for start in range(0, len(cells), width):
        row = dict(zip(fields, cells[start : start + width], strict=True))
        # Before the first cell stand the line break of the row before, and what a login shell may print.
        row[fields[0]] = row[fields[0]].rpartition("\n")[2]
        rows.append(row)
    return rows


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
