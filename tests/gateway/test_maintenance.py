"""A gateway that announces a maintenance, and the client that reads it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from crestline.client.auth import StaticToken
from crestline.client.backends.firecrest import FirecrestBackend
from crestline.gateway.config import load_config
from crestline.model import ConfigError, MaintenanceError
from harness.gateway import in_thread


def announced(**values: Any) -> dict[str, Any]:
    return {"message": "The file system is being replaced.", **values}


def system(directory: Path, **values: Any) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    return {"file_systems": [{"path": str(directory), "default_work_dir": True}], **values}


@pytest.mark.anyio
async def test_a_system_in_maintenance_says_so(tmp_path: Path) -> None:
    end = datetime.now(UTC) + timedelta(hours=2)
    past, future = end - timedelta(hours=3), end + timedelta(hours=1)
    systems = {
        "closed": system(tmp_path / "closed", maintenance=announced(end=end)),
        "reopened": system(tmp_path / "reopened", maintenance=announced(start=past, end=past)),
        "later": system(tmp_path / "later", maintenance=announced(start=future)),
    }
    with in_thread(tmp_path / "home", systems=systems) as gateway:
        with gateway.http() as http:
            for method, path in [
                ("GET", "/compute/closed/jobs"),
                ("GET", "/status/closed/nodes"),
                ("POST", "/compute/closed/jobs"),
                ("GET", "/filesystem/closed/ops/ls?path=/"),
            ]:
                answer = http.request(method, path, json={} if method == "POST" else None)
                assert answer.status_code == 503, path
                assert answer.json()["data"] == {
                    "reason": "maintenance",
                    "message": "The file system is being replaced.",
                    "end": end.isoformat(),
                }
                assert "closed is in maintenance until" in answer.json()["message"]
                assert 0 < int(answer.headers["Retry-After"]) <= 7200
            for name in ("reopened", "later"):
                assert http.get(f"/compute/{name}/jobs").status_code == 200
            assert http.get("/status/systems").status_code == 200
            assert http.get("/status/liveness").status_code == 200
        backend = FirecrestBackend(gateway.url, "closed", StaticToken(gateway.token()))
        await backend.open()
        try:
            sent = backend.traffic.requests
            with pytest.raises(MaintenanceError, match="being replaced") as caught:
                await backend.system.nodes()
            assert backend.traffic.requests == sent + 1  # repeats would not help
            assert caught.value.end == end
        finally:
            await backend.close()


def test_a_maintenance_of_the_whole_gateway(tmp_path: Path) -> None:
    with in_thread(tmp_path / "home", maintenance=announced()) as gateway, gateway.http() as http:
        answer = http.get("/compute/local/jobs")
        assert (answer.status_code, answer.json()["data"]["end"]) == (503, None)
        assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("end", ["2027-01-31T18:00:00", "tomorrow"])
def test_a_time_without_an_offset_is_refused(end: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"end|offset"):
        load_config(state_dir=tmp_path, maintenance=announced(end=end))
