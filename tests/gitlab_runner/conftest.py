"""A GitLab, its runner, and the driver configured for each of the three backends."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from crestline.testing.firecrest import running
from crestline.testing.gitlab_runner import GitLab
from gitlab_runner.site import DriverSite, gateway_site, plain_site, slurm_site
from harness.gateway import RunningGateway


@pytest.fixture(scope="session")
def gitlab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitLab]:
    server = GitLab(tmp_path_factory.mktemp("gitlab"))
    yield server
    server.close()


MakeSite = Callable[..., DriverSite]


@pytest.fixture
def make_site(request: pytest.FixtureRequest, tmp_path: Path) -> MakeSite:
    """`make_site("gateway" | "slurm" | "plain", **tables)`: the driver configured for a backend."""

    def make(backend: str, **tables: dict[str, object]) -> DriverSite:
        if backend == "gateway":
            running: RunningGateway = request.getfixturevalue("gateway")
            return gateway_site(tmp_path, running, **tables)
        if backend == "slurm":
            return slurm_site(tmp_path, request.getfixturevalue("slurm_gateway"), **tables)
        return plain_site(tmp_path, request.getfixturevalue("plain"), **tables)

    return make


@pytest.fixture
def site(make_site: MakeSite) -> DriverSite:
    """On our gateway with the local scheduler."""
    return make_site("gateway")


@pytest.fixture(scope="module")
def plain() -> Iterator[object]:
    with running(job_environment={"PATH": os.environ["PATH"]}) as stand_in:
        yield stand_in
