"""What an operator sees who turns the log level to DEBUG: each try, each renewed token."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from crestline import connect
from crestline.testing.firecrest import running
from harness.sites import plain_site


@pytest.mark.anyio
async def test_tries_and_tokens_are_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="crestline")
    with running(tmp_path / "plain") as plain:
        async with connect(plain_site(plain)) as system:
            plain.faults.fail(503, "/compute/lab/jobs$", "GET", count=1)
            await system.jobs()
        secret = plain.client_secret
    logged = [record.getMessage() for record in caplog.records]
    assert sum(message.startswith("Try 1 of GET /compute/lab/jobs failed: ") for message in logged) == 1
    assert "A token was renewed by one that lives 300 s" in logged
    assert not any(secret in message for message in logged)
