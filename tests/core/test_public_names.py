"""The public names of the adapters: listed in `__all__`, described, and with examples that work."""

from __future__ import annotations

import ast
import inspect
import textwrap
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.sdk import DAG, task
from traitlets.config import Config

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
NAMES = [(module, name) for module in PUBLIC for name in import_module(module).__all__]


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


CLASSES = {
    name: getattr(import_module(module), name)
    for module, name in NAMES
    if inspect.isclass(getattr(import_module(module), name)) and module.startswith("crestline_airflow")
}


@pytest.mark.parametrize(("module", "name"), NAMES, ids=lambda each: each)
def test_public_name_exists_and_is_described(module: str, name: str) -> None:
    found = getattr(import_module(module), name)
    if callable(found):
        assert len((inspect.getdoc(found) or "").split()) > 5


def test_examples_import_public_names_alone() -> None:
    assert names_in_examples() <= set(NAMES)


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_example_of_airflow_class_runs(name: str) -> None:
    example = example_of(CLASSES[name])
    assert name in example or "@task.firecrest" in example
    if "get_conn" in example:
        compile(example, name, "exec")  # it needs a gateway
        return
    with DAG("examples", schedule=None):
        exec(example, {**CLASSES, "DAG": DAG, "task": task})


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
