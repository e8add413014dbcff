"""The contract on import circles, run by import-linter on small packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = """
[tool.importlinter]
root_packages = ["sample"]
contract_types = ["no_circles: tools.import_circles.NoCirclesContract"]

[[tool.importlinter.contracts]]
name = "no import circle"
type = "no_circles"
ignore_imports = {ignored}
"""
TYPING_ONLY = "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import sample.a\n"


def check(folder: Path, files: dict[str, str], *ignored: str) -> tuple[int, str]:
    """Run import-linter over the package `sample` of these files; its exit code and what it prints."""
    for name, text in {"__init__.py": "", **files}.items():
        file = folder / "sample" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "pyproject.toml").write_text(CONFIG.format(ignored=list(ignored)))
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return linted.returncode, linted.stdout + linted.stderr


@pytest.mark.parametrize(
    "files",
    [
        {"a.py": "import sample.b\n", "b.py": "import sample.a\n"},
        {"a.py": "import sample.b\n", "b.py": TYPING_ONLY},
        {"a.py": "import sample.b\n", "b.py": "def use():\n    import sample.a\n"},
        {"__init__.py": "from sample.a import name\n", "a.py": "import sample\n\nname = 1\n"},
        {"a.py": "from sample import b\n", "b.py": "from . import c\n", "c.py": "from .a import b\n"},
        {
            "p/__init__.py": "from sample.p.x import y\n",
            "p/x.py": "import sample.q\n\ny = 1\n",
            "q.py": "import sample.p\n",
        },
    ],
    ids=["plain", "type-checking", "in-function", "through-init", "three-modules", "through-subpackage"],
)
def test_circle_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    code, printed = check(tmp_path, files)
    assert code == 1, printed
    assert "Import circle of" in printed
    assert "sample" in printed.split("Import circle of")[1]


def test_tree_without_circle_passes(tmp_path: Path) -> None:
    code, printed = check(
        tmp_path, {"a.py": "import sample.b\nimport sample.c\n", "b.py": "import sample.c\n", "c.py": ""}
    )
    assert code == 0, printed


def test_exempt_import_passes_and_has_to_exist(tmp_path: Path) -> None:
    circle = {"a.py": "import sample.b\n", "b.py": "import sample.a\n"}
    assert check(tmp_path, circle, "sample.b -> sample.a")[0] == 0
    code, printed = check(tmp_path, circle | {"b.py": ""}, "sample.b -> sample.a")
    assert code == 1
    assert "No matches for ignored import sample.b -> sample.a" in printed
