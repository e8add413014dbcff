"""Suites on the three backends: our gateway with its own scheduler, with real Slurm, and a plain FirecREST."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crestline.testing.firecrest import PlainFirecrest, running
from harness.gateway import RunningGateway
from harness.reframe_suite import Suite
from harness.sites import gateway_site, plain_site
from harness.slurm_gateway import SlurmGateway


@pytest.fixture
def plain() -> Iterator[PlainFirecrest]:
    with running() as plain:
        yield plain


@pytest.fixture
def on_plain(plain: PlainFirecrest, tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", plain_site(plain), partition={"access": ["--partition=debug"]})


@pytest.fixture
def on_local(gateway: RunningGateway, tmp_path: Path) -> Suite:
    return Suite(tmp_path / "suite", gateway_site(gateway))


@pytest.fixture
def on_slurm(slurm_gateway: SlurmGateway, tmp_path: Path) -> Suite:
    client_id, secret = slurm_gateway.client_of("alice")
    return Suite(
        tmp_path / "suite",
        gateway_site(slurm_gateway, client_id=client_id, client_secret=secret),
        partition={"access": ["--partition=debug"], "launcher": "srun"},
    )


@pytest.fixture(params=["local", "slurm", "plain"])
def suite(request: pytest.FixtureRequest) -> Suite:
    return request.getfixturevalue(f"on_{request.param}")
