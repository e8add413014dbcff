"""What a session writes into its job's log while the hub does not take its address."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from crestline_jupyterhub.session.main import Session

pytestmark = pytest.mark.anyio


async def test_each_report_that_failed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    statuses: list[int | None] = [None, 503, 204]

    async def tell_hub(*_: Any) -> int | None:
        return statuses.pop(0)

    async def sleep(_: float) -> None:
        pass

    monkeypatch.setattr(Session, "_call_hub", tell_hub)
    monkeypatch.setattr("crestline_jupyterhub.session.main.asyncio.sleep", sleep)
    await Session({}, tmp_path, 1)._report_until_accepted({})
    assert capsys.readouterr().err.splitlines() == [
        "[crestline] The hub did not answer, next try in 0.5 s",
        "[crestline] The hub answered HTTP 503, next try in 1 s",
    ]
