"""Command lines of ours on a page: each command exists, and has the options that it is given."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from typer.main import get_command

from crestline.cli.app import app
from crestline.cli.programs import installed
from harness.page_blocks import blocks

_SHELL = {"bash", "sh", "console"}
_CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_FENCED = re.compile(r"^[ \t]*```.*?^[ \t]*```", re.DOTALL | re.MULTILINE)
_REAPER = ("python", "-m", "crestline_jupyterhub.reaper")
# The commands with Slurm's names have no list of options to compare with: their lines are run.
_PROGRAM = re.compile(rf"(?<![\w.@-])(crestline(?:-reframe)?|{re.escape(' '.join(_REAPER))})((?: [^;&#()\n]*)?)")
_OPTION = re.compile(r"--[a-z][a-z-]*")


def commands_on(page: Path) -> Iterator[list[str]]:
    """Each command line of ours, in blocks and in the text, as words; what follows `--` or a pipe is left out."""
    shell = [block.source.replace("\\\n", " ") for block in blocks(page) if block.language in _SHELL]
    for text in [*shell, *_CODE.findall(_FENCED.sub("", page.read_text()))]:
        for program, rest in _PROGRAM.findall(text):
            words = re.split(r" (?:--|\|) ", f"{rest} ")[0].split()
            if words:
                yield [*program.split(), *words]


def options_on(page: Path) -> set[str]:
    """Options that the text names alone."""
    return {
        option
        for text in _CODE.findall(_FENCED.sub("", page.read_text()))
        if text.startswith("--")
        for option in _OPTION.findall(text)[:1]
    }


def check_command(words: list[str]) -> None:
    """Compare a command line with the help of its command.

    Raises:
        AssertionError: there is no such command, or it has no such option.
    """
    options = [option for word in words for option in _OPTION.findall(word)[:1] if word.startswith("--")]
    if words[0] == "crestline":
        known = _options_of(tuple(_names(words[1:])))
    else:
        known = _options_in_help(tuple(words[: 3 if words[0] == "python" else 1]))
    unknown = (
        set(options) - known - {"--help", "--fragment"}
    )  # the only one that ReFrame, whose help it is, does not know
    assert not unknown, f"`{' '.join(words)}`: no option {', '.join(sorted(unknown))}"


def all_options() -> frozenset[str]:
    """Those of every command of ours."""
    others = (_options_in_help(program) for program in (("crestline-reframe",), _REAPER))
    return frozenset().union(*others, *map(_options_of, _paths()))


def _names(words: list[str]) -> Iterator[str]:
    """The command's own names, at the beginning; of alternatives the first."""
    command = get_command(app)
    for word in words:
        if not hasattr(command, "get_command"):
            return
        name = word.partition("|")[0]
        if name.startswith("-"):
            return
        command = _sub(command, name)
        yield name


def _sub(group: Any, name: str) -> Any:
    command = group.get_command(group.context_class(group, info_name="crestline"), name)
    assert command is not None, f"there is no command {name!r}"
    return command


def _paths() -> Iterator[tuple[str, ...]]:
    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        if hasattr(command, "list_commands"):
            for name in command.list_commands(command.context_class(command, info_name="crestline")):
                yield from below(_sub(command, name), (*path, name))

    return below(get_command(app), ())


@cache
def _options_of(path: tuple[str, ...]) -> frozenset[str]:
    if path and path[0] in installed().names:  # another distribution's, which may read its arguments itself
        return _options_in_help(("crestline", *path))
    command: Any = get_command(app)
    for name in path:
        command = _sub(command, name)
    return frozenset(option for each in command.params for option in [*each.opts, *each.secondary_opts])


@cache
def _options_in_help(program: tuple[str, ...]) -> frozenset[str]:
    words = [str(Path(sys.executable).with_name(program[0])), *program[1:], "--help"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"COLUMNS": "500"})
    return frozenset(_OPTION.findall(done.stdout))
