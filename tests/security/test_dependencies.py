"""What the lock file promises: every package by hash, from the index alone, and nothing that no project asks for.

`make audit` asks for known vulnerabilities of these versions; it needs the network, so it is no test.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCK: dict[str, Any] = tomllib.loads((ROOT / "uv.lock").read_text())
PACKAGES: list[dict[str, Any]] = LOCK["package"]
PROJECTS = sorted(
    [ROOT / "pyproject.toml", ROOT / "core" / "pyproject.toml", *ROOT.glob("integrations/*/pyproject.toml")]
)
OWN = {canonicalize_name(tomllib.loads(file.read_text())["project"]["name"]) for file in PROJECTS}


def requirements(file: Path) -> list[Requirement]:
    """All that a project names, in any of its extras and groups."""
    content = tomllib.loads(file.read_text())
    named = [*content["project"].get("dependencies", []), *content.get("build-system", {}).get("requires", [])]
    named += [each for extra in content["project"].get("optional-dependencies", {}).values() for each in extra]
    named += [each for group in content.get("dependency-groups", {}).values() for each in group]
    return [Requirement(each) for each in named if isinstance(each, str)]


def test_every_locked_package_has_hashes_of_all_its_files() -> None:
    for package in PACKAGES:
        if canonicalize_name(package["name"]) in OWN:
            continue
        files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
        assert files, package["name"]
        for file in files:
            assert re.fullmatch(r"sha256:[0-9a-f]{64}", file["hash"]), package["name"]


def test_no_package_comes_from_elsewhere() -> None:
    """No repository, no URL, no directory but our own."""
    for package in PACKAGES:
        kinds = set(package["source"])
        if canonicalize_name(package["name"]) in OWN:
            assert kinds <= {"editable", "virtual"}, package
        else:
            assert kinds == {"registry"}, package
    for file in PROJECTS:
        assert [each for each in requirements(file) if each.url] == [], file
        sources = tomllib.loads(file.read_text()).get("tool", {}).get("uv", {}).get("sources", {})
        assert all(source == {"workspace": True} for source in sources.values()), file


@pytest.mark.parametrize("file", PROJECTS, ids=lambda file: file.parent.name)
def test_lock_and_project_agree(file: Path) -> None:
    """The locked entry of each project names what its file names, with the same bounds, and holds what they ask for."""
    content = tomllib.loads(file.read_text())
    (locked,) = [each for each in PACKAGES if each["name"] == content["project"]["name"]]
    metadata = locked["metadata"]
    noted = [*metadata.get("requires-dist", [])]
    noted += [each for group in metadata.get("requires-dev", {}).values() for each in group]
    bounds = {(canonicalize_name(each["name"]), each.get("specifier", "").replace(" ", "")) for each in noted}
    named = content["project"].get("dependencies", [])
    named = [
        *named,
        *(each for extra in content["project"].get("optional-dependencies", {}).values() for each in extra),
    ]
    named += [each for group in content.get("dependency-groups", {}).values() for each in group]
    versions: dict[str, list[Version]] = {}
    for package in PACKAGES:
        if "version" in package:
            versions.setdefault(canonicalize_name(package["name"]), []).append(Version(package["version"]))
    for requirement in map(Requirement, named):
        name = canonicalize_name(requirement.name)
        if name in OWN:
            continue
        assert any(
            name == known and requirement.specifier == Requirement(f"x{bound}").specifier for known, bound in bounds
        )
        assert any(requirement.specifier.contains(version, prereleases=True) for version in versions[name]), requirement


def test_the_lock_can_be_read_by_its_tool() -> None:
    """And names what `pip install --require-hashes` and the audit are given: hashes on every line, nothing else."""
    uv = Path(sys.executable).with_name("uv")
    words = [uv, "export", "--quiet", "--frozen", "--offline", "--all-packages", "--all-groups"]
    done = subprocess.run(
        [*words, "--no-emit-workspace", "--no-emit-project"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    joined = done.stdout.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) > 100
    assert [line for line in lines if "--hash=sha256:" not in line or "://" in line or line.startswith("-e")] == []
