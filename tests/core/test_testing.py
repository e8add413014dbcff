"""What other projects use of `crestline.testing`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = """
import httpx
from crestline.testing.iri import TOKEN


def test_firecrest(plain_firecrest, tmp_path):
    assert httpx.get(f"{plain_firecrest.url}/status/liveness/").is_success
    assert plain_firecrest.home.is_relative_to(tmp_path)
    assert plain_firecrest.count("GET", "/status/liveness/") == 1


def test_iri(iri_facility):
    resources = httpx.get(f"{iri_facility.url}/api/v1/status/resources", headers={"Authorization": f"Bearer {TOKEN}"})
    assert resources.is_success
    assert iri_facility.requests == ["getResources"]


def test_gitlab(gitlab_server):
    assert len(gitlab_server.commit({"data.txt": "12"})) == 40
"""


def test_another_project_uses_the_fixtures(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["crestline.testing.fixtures"]\n')
    (tmp_path / "test_program.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, tmp_path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
