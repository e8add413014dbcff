"""What a process that lives for seconds hands on to the next one: its token, and what the gateway said of itself."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from crestline.cli.app import run
from crestline.client import connect, register_site
from crestline.client.auth import token as tokens
from crestline.testing.firecrest import PlainFirecrest, running
from harness.sites import plain_site

pytestmark = pytest.mark.anyio


@pytest.fixture
def plain() -> Iterator[PlainFirecrest]:
    with running() as plain:
        yield plain


async def _asked(plain: PlainFirecrest, file: Path) -> list[str]:
    """The requests of a process that only looks into a directory."""
    tokens._sources.clear()
    plain.requests.clear()
    async with connect(plain_site(plain), session_cache=file) as system:
        await system.ls(str(plain.home))
    return [each.path.rpartition("/")[2] for each in plain.requests]


async def test_the_next_process_asks_for_nothing_that_is_known(plain: PlainFirecrest, tmp_path: Path) -> None:
    file = tmp_path / "session_cache"
    first = await _asked(plain, file)
    assert "systems" in first
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["session_cache"]
    token = msgspec.json.decode(file.read_bytes())["token"]["value"]
    assert await _asked(plain, file) == ["ls"]
    assert msgspec.json.decode(file.read_bytes())["token"]["value"] == token


def test_a_short_command_asks_for_nothing_that_the_last_one_knew(
    plain: PlainFirecrest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites = tmp_path / "private" / "sites.toml"
    site = plain_site(plain)
    register_site(
        "plain",
        file=sites,
        url=site.url,
        token_url=site.token_url,
        client_id=site.client_id,
        client_secret=site.client_secret,
        system=site.system,
    )
    monkeypatch.setenv("CRESTLINE_SITES", str(sites))
    monkeypatch.delenv("CRESTLINE_SITE", raising=False)
    asked = []
    for _ in range(2):
        tokens._sources.clear()
        plain.requests.clear()
        assert run(["ps", "--site", "plain"]) == 0
        asked.append([each.path.rpartition("/")[2] for each in plain.requests])
    assert "systems" in asked[0]
    assert asked[1] == ["jobs"]


async def test_a_token_that_is_refused_is_replaced(plain: PlainFirecrest, tmp_path: Path) -> None:
    file = tmp_path / "session_cache"
    await _asked(plain, file)
    content = msgspec.json.decode(file.read_bytes())
    content["token"]["value"] = "no.longer.valid"
    file.write_bytes(msgspec.json.encode(content))
    assert (await _asked(plain, file)).count("ls") == 2
    assert msgspec.json.decode(file.read_bytes())["token"]["value"] != "no.longer.valid"


async def test_files_of_other_identities_and_unreadable_ones_are_not_used(
    plain: PlainFirecrest, tmp_path: Path
) -> None:
    file = tmp_path / "session_cache"
    await _asked(plain, file)
    content = msgspec.json.decode(file.read_bytes())
    file.write_bytes(msgspec.json.encode(content | {"of": "somebody else"}))
    assert "systems" in await _asked(plain, file)
    file.write_bytes(b"{")
    assert "systems" in await _asked(plain, file)
    content["description"]["asked"] -= 3600
    file.write_bytes(msgspec.json.encode(content))
    assert "systems" in await _asked(plain, file)
