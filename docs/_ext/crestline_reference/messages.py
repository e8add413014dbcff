"""The messages of all errors that the code raises, with what to do about each: found in the syntax of the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from crestline import model
from crestline.model import CrestlineError, Job, JobState, MaintenanceError
from crestline.model.endings import describe_end, end_hint
from crestline_reference.tables import table

_ROOT = Path(__file__).parents[3]
_SOURCES = [_ROOT / "core/src", *_ROOT.glob("integrations/*/src")]


def markdown() -> str:
    """For each class of error a section with a table: message, what to do."""
    lines = []
    for kind, found in raised().items():
        about = (getattr(model, kind).__doc__ or "").split("\n\n")[0].strip()
        rows = sorted(found, key=lambda row: row[0].lstrip("`…\\'\"").lower())
        lines += [f"### {kind}\n", f"({label(kind)})=\n{about}\n", table(["message", "what to do"], rows)]
    return "\n".join(lines)


def label(kind: str) -> str:
    """The target of the section about a class."""
    return f"messages-{kind.lower()}"


@cache
def raised() -> dict[str, set[tuple[str, str]]]:
    """Messages and instructions of each class, by its name."""
    found: dict[str, set[tuple[str, str]]] = {}
    for kind, message, hint in sorted([*_all_raised(), *_composed()]):
        found.setdefault(kind, set()).add((message, hint))
    return found


def _composed() -> Iterator[tuple[str, str, str]]:
    """Messages that are put together at run time."""
    yield "MaintenanceError", MaintenanceError("…", "…").message, "Repeat it when the maintenance has ended."
    ends = [Job(job_id="…", state=state) for state in JobState if state.is_terminal and state is not JobState.COMPLETED]
    ends += [Job(job_id="…", state=JobState.FAILED, exit_code=code) for code in (1, 126, 127, 137)]
    for job in ends:
        yield "JobFailedError", describe_end(job), end_hint(job) or "Look at its output."


def _all_raised() -> Iterator[tuple[str, str, str]]:
    """Class, message and hint of each error that is made with a text of its own."""
    kinds = {
        name for name, value in vars(model).items() if isinstance(value, type) and issubclass(value, CrestlineError)
    }
    for folder in _SOURCES:
        for file in sorted(folder.rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in kinds:
                    continue
                message = _text(node.args[0]) if node.args else ""
                hint = next((_text(each.value) for each in node.keywords if each.arg == "hint"), "")
                if message and hint:
                    yield node.func.id, message, hint


def _text(node: ast.expr) -> str:
    """A literal or formatted string, with `…` for what is filled in; nothing for any other expression."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _escaped(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_escaped(str(each.value)) if isinstance(each, ast.Constant) else "…" for each in node.values)
    return ""


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in "\\`*_{}[]<>|#$" else each for each in text).replace("\n", " ")
