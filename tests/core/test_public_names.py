"""The public names of the core and the adapters: listed in `__all__`, described, and with examples that work."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from traitlets.config import Config

import crestline
from crestline import client, model
from crestline.model import errors
from crestline_gitlab_runner.settings import Settings

ROOT = Path(__file__).parents[2]
PUBLIC = [
    "crestline_airflow.assets",
    "crestline_airflow.decorators",
    "crestline_airflow.failures",
    "crestline_airflow.hooks",
    "crestline_airflow.notifications",
    "crestline_airflow.operators",
    "crestline_airflow.sensors",
    "crestline_gitlab_runner",
    "crestline_jupyterhub",
    "crestline_jupyterhub.tokens",
    "crestline_reframe",
]
CORE = Path(crestline.__file__).parent
CORE_PACKAGES = sorted(
    ".".join(file.parent.relative_to(CORE.parent).parts)
    for file in CORE.rglob("__init__.py")
    if "__all__" in file.read_text()
)


def public_names(module: str) -> dict[str, Any]:
    """What a module lists in `__all__`."""
    found = import_module(module)
    return {name: getattr(found, name) for name in found.__all__}


def names_in_examples() -> set[tuple[str, str]]:
    """What Python files of the examples import from adapters."""
    found = set()
    for file in (ROOT / "examples").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crestline_"):
                found |= {(str(node.module), each.name) for each in node.names}
    return found


def example_of(described: Any) -> str:
    """The block behind `Example::` in a docstring; empty if there is none."""
    lines = inspect.cleandoc(described.__doc__ or "").split("\n")
    begin = next((at for at, line in enumerate(lines) if line.startswith("Example") and line.endswith("::")), None)
    if begin is None:
        return ""
    block = []
    for line in lines[begin + 1 :]:
        if line and not line.startswith("    "):
            break
        block.append(line)
    return textwrap.dedent("\n".join(block)).strip()


CORE_CLASSES = {
    name: found
    for package in (client, model)
    for name in package.__all__
    if inspect.isclass(found := getattr(package, name)) and not issubclass(found, Exception)
}


def short_docstrings(names: dict[str, Any]) -> list[str]:
    """The functions and classes whose docstrings have five words or fewer."""
    return [
        name for name, found in names.items() if callable(found) and len((inspect.getdoc(found) or "").split()) <= 5
    ]


@pytest.mark.parametrize("file", sorted(CORE.rglob("__init__.py")), ids=lambda file: file.parent.name)
def test_packages_that_import_names_list_them(file: Path) -> None:
    """What a package imports for others is in `__all__`; the rest is private, or used in the file itself."""
    tree = ast.parse(file.read_text())
    imported = {
        (each.asname or each.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("crestline")
        for each in node.names
    }
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    package = ".".join(file.parent.relative_to(CORE.parent).parts)
    exported = getattr(import_module(package), "__all__", [])
    assert {name for name in imported - used if not name.startswith("_")} <= set(exported)


@pytest.mark.parametrize("package", CORE_PACKAGES)
def test_public_names_of_the_core_exist(package: str) -> None:
    module = import_module(package)
    assert [name for name in module.__all__ if not hasattr(module, name)] == []
    assert [name for name in module.__all__ if name.startswith("_") and name != "__version__"] == []
    assert len(set(module.__all__)) == len(module.__all__)


@pytest.mark.parametrize("package", ["crestline.client", "crestline.model"])
def test_public_names_of_the_core_are_described_in_the_reference(package: str) -> None:
    names = public_names(package)
    assert short_docstrings(names) == []
    pages = "".join(page.read_text() for page in (ROOT / "docs/reference").glob("*.md"))
    documented = {line.rpartition(".")[2] for line in re.findall(r"^\.\. auto\w+:: (\S+)$", pages, re.MULTILINE)}
    errors = {name for name, found in names.items() if inspect.isclass(found) and issubclass(found, Exception)}
    assert "```{crestline-errors}" in pages  # lists every class of `model.errors`
    assert set(names) - documented - errors == set()


@pytest.mark.parametrize("name", sorted(CORE_CLASSES))
def test_class_of_the_core_has_an_example_that_holds(name: str) -> None:
    described = CORE_CLASSES[name]
    text = inspect.cleandoc(described.__doc__ or "")
    code = example_of(described) or "\n".join(re.findall("^Example: `(.+)`$", text, re.MULTILINE))
    compile(code, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names = vars(import_module(described.__module__)) | vars(model)
    found = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    assert doctest.DocTestRunner().run(found).failed == 0
    assert code or found.examples


def test_the_tree_of_errors_is_drawn_as_it_is() -> None:
    def draw(error: type, depth: int) -> Iterator[str]:
        yield " " * 4 * depth + error.__name__
        for each in error.__subclasses__():
            if each.__module__ == errors.__name__:
                yield from draw(each, depth + 1)

    assert "\n".join(draw(model.CrestlineError, 1)) in (errors.__doc__ or "")


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_exist_and_are_described(module: str) -> None:
    assert short_docstrings(public_names(module)) == []


def test_examples_import_public_names_alone() -> None:
    assert names_in_examples() <= {(module, name) for module in PUBLIC for name in public_names(module)}


def test_examples_of_airflow_classes_run() -> None:
    from airflow.sdk import DAG, task

    modules = [module for module in PUBLIC if module.startswith("crestline_airflow")]
    classes = {name: found for each in modules for name, found in public_names(each).items() if inspect.isclass(found)}
    assert len(classes) > 10
    for name, described in sorted(classes.items()):
        example = example_of(described)
        assert name in example or "@task.firecrest" in example, name
        if "get_conn" in example:
            compile(example, name, "exec")  # it needs a gateway
            continue
        with DAG("examples", schedule=None):
            exec(example, {**classes, "DAG": DAG, "task": task})


def test_example_of_the_spawner_names_settings() -> None:
    spawner = import_module("crestline_jupyterhub").FirecRESTSpawner
    config = Config()
    exec(example_of(spawner), {"c": config})
    assert config.FirecRESTSpawner
    assert set(config.FirecRESTSpawner) <= set(spawner.class_trait_names(config=True))


def test_example_of_the_scheduler_is_a_partition() -> None:
    reframe = import_module("crestline_reframe")
    partition = ast.literal_eval(example_of(reframe.FirecrestJobScheduler))
    assert partition["scheduler"] == reframe.NAME
    import_module("crestline_reframe.options").read(partition["sched_options"]["firecrest"])


def test_example_of_the_ci_settings_is_a_configuration_file() -> None:
    settings = msgspec.convert(tomllib.loads(example_of(Settings)), Settings)
    assert settings.gateway.system == "daint"
