"""Tables in the notations of `--format` (`%.18i %T`) and `--Format` (`JobID:8,State:|`)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from crestline.cli.output import one_line
from crestline.cli.slurm.program import CommandError

T = TypeVar("T")


@dataclass(frozen=True)
class Field(Generic[T]):
    """The definition of a column."""

    head: str
    value: Callable[[T], str]
    is_reported: bool = True
    """Whether the API reports it. If False, `value` is Slurm's text for an option that the job did not set."""
    whole: bool = False
    """Whether a text wider than the column is printed in full."""

    def text(self, row: T) -> str:
        """Return the text of a row. Control characters in names that others chose are escaped."""
        return one_line(self.value(row))


class UnknownFieldError(CommandError):
    """A format contains a field that these commands do not support."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """A field as formatted by the user, or with `field=None` the literal text between two fields."""

    field: Field[T] | None
    width: int = 0
    """Width in characters. 0 means the width of the text."""
    right: bool = False
    suffix: str = ""
    grows: bool = False
    """Whether the column grows with its texts (`#`)."""

    def grown(self, rows: list[T]) -> Column[T]:
        """Return the column widened for these rows, if it can grow."""
        if not self.grows or self.field is None:
            return self
        return replace(self, width=max([self.width, *(len(self.field.text(row)) for row in rows)]))

    def heading(self) -> str:
        """Return its part of the header line."""
        return self._fitted(self.field.head if self.field else "")

    def cell(self, row: T) -> str:
        """Return its part of the line of a row."""
        return self._fitted(self.field.text(row), whole=self.field.whole) if self.field else self._fitted("")

    def _fitted(self, text: str, *, whole: bool = False) -> str:
        if self.width:
            text = text if whole else text[: self.width]
            text = text.rjust(self.width) if self.right else text.ljust(self.width)
        return text + self.suffix


def short_format(program: str, text: str, fields: Mapping[str, Field[T]], what: str = "job") -> list[Column[T]]:
    """Parse a format of the form `%[#][.][size]type[suffix]...`.

    Raises:
        CommandError: unknown type.
    """
    columns: list[Column[T]] = []
    head, *rest = text.split("%")
    if head:
        columns.append(Column(None, suffix=head))
    for part in filter(None, rest):
        match = re.match(r"(#?)(\.?)(\d*)([A-Za-z])", part)
        if match is None:
            literal = f"%{part}"
            columns.append(Column(Field(literal, lambda _, text=literal: text, is_reported=False)))  # type: ignore[misc]
            continue
        grows, dot, size, letter = match.groups()
        if letter not in fields:
            raise UnknownFieldError(f"{program}: error: Invalid {what} format specification: {letter}")
        columns.append(Column(fields[letter], int(size or 0), bool(dot), part[match.end() :], bool(grows)))
    return columns


def long_format(program: str, text: str, fields: Mapping[str, Field[T]], what: str = "job") -> list[Column[T]]:
    """Parse a format of the form `type[:[.][size][suffix]],...`. The default width is 20, unless there is a suffix.

    Raises:
        CommandError: unknown type.
    """
    known = {name.lower(): field for name, field in fields.items()}
    columns: list[Column[T]] = []
    for part in filter(None, map(str.lstrip, text.split(","))):
        name, colon, size = part.partition(":")
        if name.lower() not in known:
            raise UnknownFieldError(f"{program}: error: Invalid {what} format specification: {name}")
        match = re.fullmatch(r"(\.?)(\d*)(.*)", size, re.DOTALL)
        assert match is not None  # noqa: S101
        dot, width, suffix = match.groups()
        default = 0 if colon and suffix and not width else 20
        columns.append(Column(known[name.lower()], int(width or default), bool(dot), suffix))
    return columns


def print_rows(columns: list[Column[T]], rows: list[T], *, header: bool) -> None:
    """Print the rows as a table."""
    columns = [column.grown(rows) for column in columns]
    if header:
        print("".join(column.heading() for column in columns))
    for row in rows:
        print("".join(column.cell(row) for column in columns))


@dataclass(frozen=True)
class Wide(Field[T]):
    """A field of sacct and sacctmgr with its default width."""

    is_reported: bool = field(default=True, kw_only=True)
    whole: bool = field(default=False, kw_only=True)
    width: int = 10
    left: bool = False


WideColumn = tuple[Wide[T], int, bool]
"""Field, width, and whether the column is left-aligned."""


def wide_format(program: str, text: str, fields: Mapping[str, Wide[T]]) -> list[WideColumn[T]]:
    """Parse a format of the form `field[%[-]width],...`.

    Args:
        fields: the fields by their names in lower case.

    Raises:
        CommandError: unknown field.
    """
    columns: list[WideColumn[T]] = []
    for part in filter(None, text.split(",")):
        name, _, size = part.strip().partition("%")
        field = fields.get(name.lower())
        if field is None or not re.fullmatch(r"(-?\d+)?", size):
            raise UnknownFieldError(f'{program}: error: Invalid field requested: "{name}"')
        columns.append((field, abs(int(size or field.width)), size.startswith("-") or (field.left and not size)))
    return columns


def print_wide(
    columns: Sequence[WideColumn[T]], items: Sequence[T], options: Mapping[str, str], *, header: bool
) -> None:
    """Print items as sacct does: in columns, or with `parsable` and `parsable2` separated by `delimiter`."""
    rows = [[field.text(item) for field, _, _ in columns] for item in items]
    if "parsable" in options or "parsable2" in options:
        mark = options.get("delimiter", "|")
        last = mark if "parsable" in options else ""
        for row in [[field.head for field, _, _ in columns]] * header + rows:
            print(mark.join(row) + last)
        return
    if header:
        print(" ".join(_fitted(field.head, width, left) for field, width, left in columns) + " ")
        print(" ".join("-" * width for _, width, _ in columns) + " ")
    for row in rows:
        print(" ".join(_cell(text, *column) for text, column in zip(row, columns, strict=True)) + " ")


def _cell(text: str, field: Wide[T], width: int, left: bool) -> str:
    if len(text) > width:
        text = text[: width - 1] + "+"
    return _fitted(text, width, left)


def _fitted(text: str, width: int, left: bool) -> str:
    return text[:width].ljust(width) if left else text[:width].rjust(width)
