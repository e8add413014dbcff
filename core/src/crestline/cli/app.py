"""The Typer application, assembled from the built-in commands and those of other distributions."""

from __future__ import annotations

import os
import sys
import types
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

from crestline import __version__
from crestline.cli.errors import INTERRUPTED, report
from crestline.cli.help import first_sentence
from crestline.cli.options import Invocation
from crestline.cli.programs import BUILT_IN, Program, installed
from crestline.model import ConfigError, CrestlineError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Commands(TyperGroup):
    """A command group that imports a command's module when the command is requested."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*BUILT_IN, *sorted(installed().names - BUILT_IN.keys())]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.commands:
            if cmd_name in BUILT_IN:
                module = import_module(f"crestline.cli.{BUILT_IN[cmd_name].module}")
                self.commands.update(get_group(module.app).commands)
            elif found := tuple(installed().select(name=cmd_name)):
                self.commands[cmd_name] = _load(found[0])
            else:  # load all commands, so that Click can suggest a similar name
                for name in self.list_commands(ctx):
                    self.get_command(ctx, name)
        command = self.commands.get(cmd_name)
        if command is not None and not command.short_help:
            command.short_help = first_sentence(command.help)  # otherwise the list of commands truncates the help text
        return command

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands without importing the built-in ones."""
        others = {name: self.get_command(ctx, name).short_help for name in self.list_commands(ctx)[len(BUILT_IN) :]}
        with formatter.section("Commands"):
            formatter.write_dl([*((name, each.summary) for name, each in BUILT_IN.items()), *others.items()])


def _load(entry: EntryPoint) -> Any:
    """Return the command of another distribution, or one that reports why it cannot be loaded."""
    try:
        loaded = entry.load()
        if isinstance(loaded, types.FunctionType):
            loaded = _wrapped(entry.name, loaded)
        if not isinstance(loaded, typer.Typer):
            raise TypeError(f"{entry.value} is a {type(loaded).__name__}, not a typer.Typer or a function")
    except Exception as error:
        return get_command(_broken(entry, error))
    command = get_command(loaded)
    command.params = [each for each in command.params if each.name not in ("install_completion", "show_completion")]
    command.name = entry.name
    return command


def _wrapped(name: str, program: Program) -> typer.Typer:
    """Wrap a function in a Typer application, so that the list of commands shows it.

    `crestline.cli.main` calls such functions directly and bypasses this wrapper.
    """
    app = typer.Typer(add_completion=False)

    @app.command(
        name,
        help=program.__doc__,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    )
    def call(context: typer.Context) -> int:
        return program(context.args)

    return app


def _broken(entry: EntryPoint, error: Exception) -> typer.Typer:
    package = entry.dist.name if entry.dist else entry.value
    app = typer.Typer(add_completion=False)

    @app.command(
        entry.name,
        help=f"(cannot be loaded: {type(error).__name__}: {error})",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
    def fail() -> None:
        raise ConfigError(
            f"The command '{entry.name}' cannot be loaded: {type(error).__name__}: {error}.",
            hint=f"It comes with the package {package}: repair or remove that.",
        ) from error

    return app


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 done, 2 usage, 65 request, 66 not found, 69 gateway, 74 transfer, 75 try later,"
    " 77 permission, 78 configuration, 1 others; run, wait and submit --wait: the job's own.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"crestline {__version__}")
        raise typer.Exit


@app.callback()
def crestline(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Run work on supercomputers through one REST API: FirecREST v2 or the IRI Facility API."""


def run(arguments: list[str]) -> int:
    """Run a command, report its failure on stderr, and return the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    state = Invocation()
    try:
        result = get_command(app)(arguments, "crestline", standalone_mode=False, obj=state)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except BrokenPipeError:  # the reader has closed the pipe; prevent the interpreter from flushing again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except typer.TyperException as error:
        return report(error, as_json=state.json or "--json" in arguments)
    except (CrestlineError, OSError) as error:
        return report(error, as_json=state.json)
    except ExceptionGroup as group:  # from a task group; the first failure cancelled the other tasks
        first = _first(group)
        if not isinstance(first, CrestlineError | OSError):
            raise
        return report(first, as_json=state.json)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
