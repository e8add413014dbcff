"""The steps of a release that need no build: version, changelog, tag, bill of materials, signature."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from tools.release.build import bill_of_materials, sign
from tools.release.recipes import _spack_range
from tools.release.site import publish_docs
from tools.release.versions import (
    ReleaseError,
    check_tag,
    current_version,
    cut_changelog,
    places,
    section,
    set_version,
)

import crestline

ROOT = Path(__file__).parents[2]
CHANGELOG = "# Changelog\n\n## Unreleased\n\n- One.\n\n## 0.0.9 - 2026-01-01\n\n- Zero.\n"
TODAY = datetime.date(2026, 12, 1)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with the files that hold the version, and a changelog."""
    for file in (*places(ROOT), ROOT / "uv.lock"):
        copy = tmp_path / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@example.org commit -qm first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return tmp_path


def test_a_version_is_written_into_every_file(tree: Path) -> None:
    set_version(tree, "7.8.9rc1")
    assert current_version(tree) == "7.8.9rc1"
    changed = subprocess.run(
        ["git", "diff", "--name-only"], cwd=tree, capture_output=True, text=True, check=True
    ).stdout
    assert set(changed.split()) == {"CHANGELOG.md", *(str(file.relative_to(tree)) for file in places(tree))}
    for file in places(tree):
        assert crestline.__version__ not in file.read_text().replace(f'"version_added": "{crestline.__version__}"', "")


def test_files_with_different_versions_are_named(tree: Path) -> None:
    file = tree / "integrations/reframe/pyproject.toml"
    file.write_text(file.read_text().replace(f'version = "{crestline.__version__}"', 'version = "9.9"'))
    with pytest.raises(ReleaseError, match=r"integrations/reframe/pyproject.toml: 0\.1\.0, 9\.9"):
        current_version(tree)


@pytest.mark.parametrize("version", ["", "one", "1.0-rc.1", "v1.0"])
def test_an_invalid_version_changes_nothing(version: str, tree: Path) -> None:
    with pytest.raises(ReleaseError, match="Invalid version"):
        set_version(tree, version)
    assert current_version(tree) == crestline.__version__


def test_the_changelog_is_cut() -> None:
    cut = cut_changelog(CHANGELOG, "0.1.0", TODAY)
    assert "## Unreleased\n\n## 0.1.0 - 2026-12-01\n\n- One.\n" in cut
    assert (section(cut, "0.1.0"), section(cut, "0.0.9"), section(cut, "Unreleased")) == ("- One.", "- Zero.", "")
    with pytest.raises(ReleaseError, match="nothing below"):
        cut_changelog(cut, "0.2.0", TODAY)
    with pytest.raises(ReleaseError, match=r"already has a section 0\.0\.9"):
        cut_changelog(CHANGELOG, "0.0.9", TODAY)


def test_a_release_needs_the_tag_a_clean_tree_and_a_section(tree: Path) -> None:
    version = current_version(tree)
    with pytest.raises(ReleaseError, match=f"not tagged v{version}"):
        check_tag(tree, version)
    subprocess.run(["git", "tag", f"v{version}"], cwd=tree, check=True)
    with pytest.raises(ReleaseError, match="no section"):
        check_tag(tree, version)
    set_version(tree, version)
    with pytest.raises(ReleaseError, match="not committed"):
        check_tag(tree, version)


def test_bills_of_materials_are_reproducible_and_name_no_index() -> None:
    first, second = (bill_of_materials(ROOT, "crestline-gitlab-runner", 0) for _ in range(2))
    assert first == second
    assert "://" not in first
    names = {component["name"] for component in json.loads(first)["components"]}
    assert {"httpx", "crestline"} <= names
    assert "pytest" not in names


def test_a_signature_can_be_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, file, allowed = tmp_path / "key", tmp_path / "SHA256SUMS", tmp_path / "allowed"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    file.write_text("0  a\n")
    monkeypatch.setenv("RELEASE_SIGNING_KEY", str(key))
    sign(file)
    allowed.write_text(f"releases {key.with_suffix('.pub').read_text()}")
    verify = ["ssh-keygen", "-Y", "verify", "-f", allowed, "-I", "releases", "-n", "crestline-release"]
    verify += ["-s", file.with_suffix(".sig")]
    assert subprocess.run(verify, input=b"0  a\n", capture_output=True).returncode == 0
    assert subprocess.run(verify, input=b"1  a\n", capture_output=True).returncode != 0


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((">=1.2",), "1.2:"),
        ((">=0.40", "<0.55"), "0.40:0.54"),
        ((">=2.3", "<3"), "2.3:2"),
        (("==0.1.0",), "=0.1.0"),
        (("==6.1.*",), "6.1"),
    ],
)
def test_ranges_of_spack(bounds: tuple[str, ...], expected: str) -> None:
    assert _spack_range(*bounds) == expected


def test_the_workflow_publishes_what_make_release_made() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    build, publish = workflow["jobs"]["build"], workflow["jobs"]["publish"]
    assert any(step.get("run", "").startswith("make release") for step in build["steps"])
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write", "attestations": "write", "contents": "write"}


def test_documentation_of_each_version_stays(tmp_path: Path) -> None:
    html, site = tmp_path / "html", tmp_path / "site"
    with pytest.raises(ReleaseError, match="make docs"):
        publish_docs(html, site, "0.1.0")
    (html / "how-to").mkdir(parents=True)
    for version in ("0.9.0", "0.10.0", "0.11.0rc1", "0.9.0"):
        (html / "index.html").write_text(version)
        publish_docs(html, site, version)
    listed = json.loads((site / "versions.json").read_text())
    assert listed == {"newest": "0.10.0", "versions": ["0.11.0rc1", "0.10.0", "0.9.0"]}
    assert (site / "0.9.0/index.html").read_text() == "0.9.0"
    assert "url=0.10.0/" in (site / "index.html").read_text()
