"""Slurm's commands beside a gateway with `local`, one in front of real Slurm, and a plain FirecREST."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from crestline.testing.firecrest import running
from harness.gateway import RunningGateway
from harness.slurm_commands import SlurmCommands
from harness.slurm_gateway import SlurmGateway


@pytest.fixture
def local(gateway: RunningGateway, tmp_path: Path) -> SlurmCommands:
    commands = SlurmCommands(tmp_path / "here")
    commands.add_site("laptop", gateway.url, gateway.token_url, gateway.client, gateway.system)
    return commands


@pytest.fixture
def slurm(slurm_gateway: SlurmGateway, tmp_path: Path) -> SlurmCommands:
    commands = SlurmCommands(tmp_path / "here")
    client = slurm_gateway.client_of("alice")
    commands.add_site("centre", slurm_gateway.url, slurm_gateway.token_url, client, slurm_gateway.system)
    return commands


@pytest.fixture(params=["local", "slurm", "plain"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SlurmCommands]:
    if request.param != "plain":
        yield request.getfixturevalue(request.param)
        return
    with running(version="2.6.0") as plain:
        commands = SlurmCommands(
            tmp_path / "here",
            FIRECREST_URL=plain.url,
            AUTH_TOKEN_URL=plain.token_url,
            FIRECREST_CLIENT_ID=plain.client_id,
            FIRECREST_CLIENT_SECRET=plain.client_secret,
            FIRECREST_SYSTEM=plain.system,
        )
        yield commands
