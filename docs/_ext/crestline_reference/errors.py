"""The exceptions as a tree."""

from __future__ import annotations

from collections.abc import Iterator

from crestline.model import CrestlineError
from crestline_reference import messages


def markdown() -> str:
    """A nested list: class, HTTP status, meaning, its messages; then each class with its attributes."""
    described = "".join(f".. autoexception:: {_name(kind)}\n" for kind, _ in _tree(CrestlineError))
    return "".join(_line(kind, depth) for kind, depth in _tree(CrestlineError)) + f"\n```{{eval-rst}}\n{described}```\n"


def _line(kind: type[CrestlineError], depth: int) -> str:
    about = (kind.__doc__ or "").split("\n\n")[0].strip()
    link = f"[messages](#{messages.label(kind.__name__)})"
    return f"{'  ' * depth}- {{py:exc}}`~{_name(kind)}` (HTTP {kind.status}): {about} ({link})\n"


def _name(kind: type[CrestlineError]) -> str:
    return f"crestline.model.{kind.__name__}"


def _tree(kind: type[CrestlineError], depth: int = 0) -> Iterator[tuple[type[CrestlineError], int]]:
    if kind.__module__.startswith("crestline.model"):
        yield kind, depth
        for each in sorted(kind.__subclasses__(), key=lambda each: (each.status, each.__name__)):
            yield from _tree(each, depth + 1)
