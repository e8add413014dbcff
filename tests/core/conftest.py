"""A served gateway and the command that reaches it, for the tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.command import Command


@pytest.fixture(scope="module")
def crestline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command beside a gateway that `crestline serve` has registered as the only site."""
    command = Command(tmp_path_factory.mktemp("cli"))
    with command.serving("--home", command.place / "home"):
        yield command


@pytest.fixture
def alone(tmp_path: Path) -> Command:
    """The command on a machine without any site."""
    return Command(tmp_path)
