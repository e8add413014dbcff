"""A served gateway and the command that reaches it; a stand-in and a connection, for a file's own `plain_server`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from crestline.client.connection import Connection
from crestline.client.files import backoff
from crestline.testing.firecrest import PlainFirecrest
from harness.backends import plain_connection
from harness.command import Command


@pytest.fixture(scope="module")
def crestline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command beside a gateway that `crestline serve` has registered as the only site."""
    command = Command(tmp_path_factory.mktemp("cli"))
    with command.serving("--state-dir", command.place / "home"):
        yield command


@pytest.fixture
def alone(tmp_path: Path) -> Command:
    """The command on a machine without any site."""
    return Command(tmp_path)


@pytest.fixture
def plain(plain_server: PlainFirecrest) -> Iterator[PlainFirecrest]:
    """The stand-in of the whole file, without requests or faults of earlier tests."""
    plain_server.requests.clear()
    yield plain_server
    plain_server.faults.reset()


@pytest.fixture
async def connection(plain: PlainFirecrest) -> AsyncIterator[Connection]:
    async with plain_connection(plain) as connection:
        yield connection


@pytest.fixture
def remote(plain: PlainFirecrest, tmp_path: Path) -> Path:
    """A directory of the test's own in the first user's home."""
    place = plain.home / tmp_path.name
    place.mkdir()
    return place


@pytest.fixture
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer that does not get on is tried as often as ever, but at once."""
    monkeypatch.setattr(backoff, "_LONGEST_WAIT", 0.02)
