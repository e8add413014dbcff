"""Every command with its options, as `--help` has them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from importlib.metadata import entry_points
from io import StringIO
from typing import Any

import typer
from typer.main import get_command

from crestline.cli.app import app
from crestline_reference.tables import code, table


def markdown() -> str:
    """A section for each command of `crestline`, those of installed adapters included."""
    return "\n".join(_command("crestline", get_command(app)))


def _command(name: str, command: Any) -> Iterator[str]:
    context = command.context_class(command, info_name=name, terminal_width=10_000)
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    if name != "crestline":
        yield f"## {name}\n"
        yield f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```\n"
        yield f"{_escaped(command.help or '')}\n"
        records = (each.get_help_record(context) for each in command.get_params(context))
        rows = [_row(*record) for record in records if record and not record[0].startswith("--help")]
        if rows:
            yield table(["option", "what"], rows)
    for each in names:
        if (own := _own_help(each)) and name == "crestline":
            yield f"## {name} {each}\n\n```text\n{own}```\n"
        else:
            yield from _command(f"{name} {each}", command.get_command(context, each))


def _own_help(name: str) -> str:
    """The help of an adapter's command that reads its arguments itself; empty for the others."""
    for entry in entry_points(group="crestline.commands", name=name):
        main = entry.load()
        if not isinstance(main, typer.Typer):
            with redirect_stdout(StringIO()) as said, suppress(SystemExit):
                main(["--help"])
            return said.getvalue()
    return ""


def _row(names: str, about: str) -> list[str]:
    return [code(names), _escaped(about)]


def _escaped(text: str) -> str:
    """`*` and `<` stand for themselves."""
    return text.replace("*", r"\*").replace("<", r"\<").replace("$", r"\$")
