"""The threat model names tests that exist, and every test of this room has its place in it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "threat-model.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


def names_in(file: Path) -> set[str]:
    parsed = ast.parse(file.read_text())
    functions = (each for each in parsed.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return {each.name for each in functions if each.name.startswith("test_")}


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED}))
def test_named_tests_exist(file: str) -> None:
    assert {name for path, name in NAMED if path == file} <= names_in(ROOT / file)


def test_every_threat_has_its_proof() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and line.count("|") == 4]
    threats = [row for row in rows if not row.startswith(("| threat", "| ---"))]
    assert len(threats) > 30
    assert [row for row in threats if "tests/" not in row and "`make " not in row] == []


def test_every_room_of_the_suite_is_in_it() -> None:
    named = {file for file, _ in NAMED}
    files = {str(file.relative_to(ROOT)) for file in Path(__file__).parent.glob("test_*.py")}
    assert files - named == {"tests/security/test_threat_model.py"}
