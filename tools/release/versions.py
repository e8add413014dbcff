"""The version of all distributions, and the changelog's section about it."""

from __future__ import annotations

import datetime
import re
import subprocess
import tomllib
from pathlib import Path

from packaging.version import InvalidVersion, Version

UNRELEASED = "## Unreleased\n"
IN_PROJECTS = re.compile(r'(?<=^version = ")[^"]+|(?<=crestline==)[\w.]+|(?<=\]==)[\w.]+(?=",$)', re.MULTILINE)
IN_CODE = re.compile(r'(?<=^__version__ = ")[^"]+', re.MULTILINE)
IN_CHART = re.compile(r"(?<=^version: )\S+|(?<=^appVersion: )\S+", re.MULTILINE)


class ReleaseError(Exception):
    """A release cannot be made; the message says what to do."""


def projects(root: Path) -> list[Path]:
    """Return the pyproject.toml of the workspace and of each distribution."""
    return [root / "pyproject.toml", root / "core/pyproject.toml", *sorted(root.glob("integrations/*/pyproject.toml"))]


def places(root: Path) -> dict[Path, re.Pattern[str]]:
    """Return the files that hold the version, and where in each."""
    return {
        **dict.fromkeys(projects(root), IN_PROJECTS),
        root / "core/src/crestline/__init__.py": IN_CODE,
        root / "examples/gateway/chart/Chart.yaml": IN_CHART,
    }


def current_version(root: Path) -> str:
    """Return the version of the distributions; raises ReleaseError if two files differ."""
    found = {file: set(pattern.findall(file.read_text())) for file, pattern in places(root).items()}
    versions = set().union(*found.values())
    if len(versions) != 1 or not all(found.values()):
        lines = [f"{file.relative_to(root)}: {', '.join(sorted(each)) or 'none'}" for file, each in found.items()]
        raise ReleaseError("The files name different versions. Run `make version VERSION=X.Y.Z`.\n" + "\n".join(lines))
    return versions.pop()


def set_version(root: Path, version: str) -> None:
    """Write the version into every file that holds it and cut the changelog; raises ReleaseError."""
    try:
        canonical = str(Version(version))
    except InvalidVersion:
        raise ReleaseError(f"Invalid version {version!r}. Use X.Y.Z, X.Y.Zrc1 or the like.") from None
    if canonical != version:
        raise ReleaseError(f"Invalid version {version!r}. Write it as {canonical}.")
    changelog = root / "CHANGELOG.md"
    cut = cut_changelog(changelog.read_text(), version, datetime.datetime.now(datetime.UTC).date())
    for file, pattern in places(root).items():
        file.write_text(pattern.sub(version, file.read_text()))
    changelog.write_text(cut)


def cut_changelog(text: str, version: str, date: datetime.date) -> str:
    """Return the changelog with what was unreleased below a heading of the version."""
    if section(text, version):
        raise ReleaseError(f"CHANGELOG.md already has a section {version}.")
    if not section(text, "Unreleased"):
        raise ReleaseError("CHANGELOG.md has nothing below '## Unreleased'.")
    return text.replace(UNRELEASED, f"{UNRELEASED}\n## {version} - {date}\n", 1)


def section(text: str, version: str) -> str:
    """Return the changelog's section about a version, without its heading; "" if there is none."""
    found = re.search(rf"^## {re.escape(version)}(?: - [^\n]*)?\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() if found else ""


def check_tag(root: Path, version: str) -> None:
    """Raise ReleaseError unless the commit is tagged, unchanged and in the changelog."""
    tags = _git(root, "tag", "--points-at", "HEAD").split()
    if f"v{version}" not in tags:
        raise ReleaseError(f"The commit is not tagged v{version}. Run `git tag -s v{version}`, or set REHEARSAL=1.")
    if _git(root, "status", "--porcelain"):
        raise ReleaseError("The work tree has changes that are not committed.")
    if not section((root / "CHANGELOG.md").read_text(), version):
        raise ReleaseError(f"CHANGELOG.md has no section {version}. Run `make version VERSION={version}`.")
    locked = tomllib.loads((root / "uv.lock").read_text())["package"]
    stale = [each["name"] for each in locked if "editable" in each["source"] and each["version"] != version]
    if stale:
        raise ReleaseError(f"uv.lock has another version of {', '.join(stale)}. Run `make version VERSION={version}`.")


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True, text=True).stdout
