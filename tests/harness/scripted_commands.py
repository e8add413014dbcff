"""Programs of a login node that answer what a test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crestline.gateway.hosts import Commands, Completed


class ScriptedCommands(Commands):
    """Runs nothing.

    Args:
        answers: the answer by the name of the program, or a function that gets the command line.

    Attributes:
        argvs: the command lines so far.
    """

    def __init__(self, answers: Mapping[str, Completed] | Callable[[list[str]], Completed]) -> None:
        self._answers = answers
        self.argvs: list[list[str]] = []

    async def run(self, user: str, argv: Sequence[str], **_: Any) -> Completed:
        words = list(argv)
        self.argvs.append(words)
        if callable(self._answers):
            return self._answers(words)
        return next(answer for program, answer in self._answers.items() if program in words)


def succeeded(output: bytes = b"") -> Completed:
    """The end of a program that has printed `output`."""
    return Completed(0, output, b"")
