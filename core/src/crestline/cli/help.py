"""Help texts of commands: `--help` without truncated lines and without the names of Python types."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand


class PlainCommand(TyperCommand):
    """A command whose usage shows arguments by their metavar: `JOB...`, not `{JOB...}... <list[str]>`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words after the command's name in its usage line."""
        return ["[OPTIONS]", *(_name(each) for each in self.get_params(ctx) if isinstance(each, TyperArgument))]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the tables of arguments and options."""
        arguments, options = [], []
        for each in self.get_params(ctx):
            if isinstance(each, TyperArgument):
                arguments.append((_name(each), each.help or ""))
            elif (record := each.get_help_record(ctx)) is not None:
                options.append(record)
        for title, rows in (("Arguments", arguments), ("Options", options)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def make_app(**options: Any) -> typer.Typer:
    """Create a Typer application for a command or a group of commands."""
    return _App(rich_markup_mode=None, **options)


def first_sentence(text: str | None) -> str:
    """Return the first sentence of a help text, for the list of commands."""
    words = " ".join((text or "").split("\n\n")[0].split())
    end = words.find(". ")
    return words if end < 0 else words[: end + 1]


class _App(typer.Typer):
    def command(self, name: str | None = None, **options: Any) -> Any:
        return super().command(name, **{"cls": PlainCommand, **options})


def _name(argument: TyperArgument) -> str:
    return argument.metavar or (argument.name or "").upper()
