"""The public face of the packages: names that exist, an example for each class, and examples that hold."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import crestline
from crestline import client, model
from crestline.model import errors

ROOT = Path(crestline.__file__).parent
PACKAGES = sorted(
    ".".join(file.parent.relative_to(ROOT.parent).parts)
    for file in ROOT.rglob("__init__.py")
    if "__all__" in file.read_text()
)
CLASSES = sorted(
    {
        found
        for package in (client, model)
        for name in package.__all__
        if inspect.isclass(found := getattr(package, name)) and not issubclass(found, Exception)
    },
    key=lambda each: each.__name__,
)


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_exist_and_are_sorted(package: str) -> None:
    module = import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert len(set(module.__all__)) == len(module.__all__)


def examples(text: str) -> Iterator[str]:
    """Code of a docstring that is no doctest: after `Example:`, or indented below a sentence."""
    for inline, block in re.findall(
        r"^Example: `(.+)`$|^(?:Example:)?\n((?:    .+\n?)+)", inspect.cleandoc(text), re.MULTILINE
    ):
        yield inline or textwrap.dedent(block)


@pytest.mark.parametrize("public", CLASSES, ids=lambda each: each.__name__)
def test_each_public_class_has_an_example_that_holds(public: type) -> None:
    text = inspect.cleandoc(public.__doc__ or "")
    codes = list(examples(text))
    for code in codes:
        compile(code, public.__name__, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    module = import_module(public.__module__)
    found = doctest.DocTestParser().get_doctest(text, vars(module) | vars(model), public.__name__, None, 0)
    assert doctest.DocTestRunner().run(found).failed == 0
    assert codes or found.examples


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    def draw(error: type, depth: int) -> Iterator[str]:
        yield " " * 4 * depth + error.__name__
        for each in error.__subclasses__():
            if each.__module__ == errors.__name__:
                yield from draw(each, depth + 1)

    assert "\n".join(draw(model.CrestlineError, 1)) in (errors.__doc__ or "")
