"""`fs`: the file system before a gateway of ours and before a plain FirecREST, found by its sites file."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

import fsspec
import pytest

from crestline.client import Site, connect_blocking, register_site
from crestline.fsspec import FirecRESTFileSystem
from crestline.testing.firecrest import PlainFirecrest, running
from harness.gateway import RunningGateway
from harness.sites import gateway_site, plain_site


@pytest.fixture(scope="session")
def plain() -> Iterator[PlainFirecrest]:
    with running(version="2.6.0") as plain:
        yield plain


@pytest.fixture(params=["local", "plain"])
def site(request: pytest.FixtureRequest) -> Site:
    if request.param == "plain":
        return plain_site(request.getfixturevalue("plain"))
    gateway: RunningGateway = request.getfixturevalue("gateway")
    return gateway_site(gateway)


@pytest.fixture
def fs(site: Site) -> FirecRESTFileSystem:
    FirecRESTFileSystem.clear_instance_cache()  # an earlier test meant another site by the same name
    register_site(
        "here", url=site.url, token_url=site.token_url, client_id=site.client_id, client_secret=site.client_secret
    )
    return fsspec.filesystem("firecrest", site="here")


@pytest.fixture
def fs_path(request: pytest.FixtureRequest, site: Site) -> str:
    """A new directory."""
    name = re.sub(r"\W+", "-", request.node.name)
    with connect_blocking(site) as system:
        directory = posixpath.join(system.default_workdir(), name)
        system.mkdir(directory, parents=True)
        return f"{system.name}{directory}"
