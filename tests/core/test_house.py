"""What holds for the workspace as a whole."""

from __future__ import annotations

import importlib.resources
import tomllib
from pathlib import Path

import pytest

import crestline
import crestline_airflow

ROOT = Path(__file__).parents[2]
PROJECTS = [ROOT / "pyproject.toml", ROOT / "core/pyproject.toml", *sorted(ROOT.glob("integrations/*/pyproject.toml"))]


@pytest.mark.parametrize("file", PROJECTS, ids=lambda file: file.parent.name)
def test_all_distributions_share_one_version(file: Path) -> None:
    project = tomllib.loads(file.read_text())["project"]
    assert project["version"] == crestline.__version__
    ours = [each for each in project["dependencies"] if each.startswith("crestline==")]
    assert ours in ([], [f"crestline=={crestline.__version__}"])


def test_packages_are_typed() -> None:
    for package in (crestline, crestline_airflow):
        assert importlib.resources.files(package).joinpath("py.typed").is_file()


def test_the_lock_file_names_no_index() -> None:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    registries = {package["source"]["registry"] for package in lock["package"] if "registry" in package["source"]}
    assert registries == {"https://index.invalid/simple"}
