"""Watching a directory: each entry once, none lost, over an outage too."""

from __future__ import annotations

import contextlib

import pytest

from crestline.client.directory_watch import watch_directory
from crestline.model import GatewayUnavailableError
from crestline.testing.firecrest import running
from harness.backends import gateway_backend, plain_backend
from harness.gateway import RunningGateway

pytestmark = pytest.mark.anyio


async def test_each_entry_once_in_order(gateway: RunningGateway) -> None:
    async with gateway_backend(gateway) as backend:
        home = await backend.system.default_workdir()
        path = f"{home}/watched"
        seen: list[str] = []
        async with contextlib.aclosing(watch_directory(backend, path, interval=0.01, max_interval=0.02)) as looks:
            assert await anext(looks) == [], "it is not there yet"
            await backend.files.mkdir(path)
            for batch in (["b", "a"], [], ["c"]):
                for name in batch:
                    await backend.files.upload_small(path, name, b"x")
                while len(seen) < len({*seen, *batch}):
                    seen += [entry.name for entry in await anext(looks)]
        assert seen == ["a", "b", "c"]


async def test_an_outage_is_borne_for_a_while() -> None:
    with running() as plain:
        async with plain_backend(plain) as backend:
            path = str(plain.home)
            entries = watch_directory(backend, path, retry_timeout=60, max_interval=0.02)
            async with contextlib.aclosing(entries) as lists:
                before = {entry.name for entry in await anext(lists)}
                plain.down(seconds=1)
                (plain.home / "new").write_text("x")
                found: set[str] = set()
                while "new" not in found:
                    found |= {entry.name for entry in await anext(lists)}
                assert not before & found
            plain.down()
            with pytest.raises(GatewayUnavailableError):
                await anext(watch_directory(backend, path, retry_timeout=0, max_interval=0.02))
