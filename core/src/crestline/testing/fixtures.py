"""pytest fixtures for the stand-ins. Add this module to `pytest_plugins` in `conftest.py`:

    pytest_plugins = ["crestline.testing.fixtures"]

    def test_my_program(plain_firecrest): ...

Each test gets its own stand-in, whose files are below the test's `tmp_path`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crestline.testing import firecrest, iri
from crestline.testing.gitlab_runner import GitLab


@pytest.fixture
def plain_firecrest(tmp_path: Path) -> Iterator[firecrest.PlainFirecrest]:
    """Run a plain FirecREST 2.6 with the defects of the real one."""
    with firecrest.running(tmp_path / "plain_firecrest") as plain:
        yield plain


@pytest.fixture
def iri_facility(tmp_path: Path) -> Iterator[iri.Facility]:
    """Run an IRI facility that follows the specification of the API."""
    root = tmp_path / "iri_facility"
    root.mkdir()
    with iri.running(root) as facility:
        yield facility


@pytest.fixture
def gitlab_server(tmp_path: Path) -> Iterator[GitLab]:
    """Run the parts of a GitLab server that a CI job uses, for `crestline.testing.gitlab_runner.Build`."""
    place = tmp_path / "gitlab_server"
    place.mkdir()
    server = GitLab(place)
    yield server
    server.close()
