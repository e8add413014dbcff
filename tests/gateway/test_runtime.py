"""The parts of a gateway: whatever fails at its start or at a reload, nothing that was started stays behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from crestline.gateway.app import create_app, middleware
from crestline.gateway.audit import AuditTrail
from crestline.gateway.authorization import Authorization
from crestline.gateway.config import GatewayConfig, load_config
from crestline.gateway.health import Health
from crestline.gateway.hosts.local import LocalHost
from crestline.gateway.replicas import Replicas
from crestline.gateway.runtime import GatewayRuntime
from crestline.gateway.schedulers.local.scheduler import LocalScheduler
from crestline.gateway.store import Store
from crestline.gateway.systems import SystemRuntime
from crestline.gateway.transfers import TransferService
from crestline.model import GatewayUnavailableError
from crestline.relay.server import Relay

PARTS = (Replicas, AuditTrail, LocalHost, LocalScheduler, TransferService, Health, Relay)
"""in the order of their start"""

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def config_of(path: Path, **more: Any) -> GatewayConfig:
    trees = {name: [{"path": str(path / name), "default_work_dir": True}] for name in ("first", "second")}
    for name in trees:
        (path / name).mkdir(exist_ok=True)
    systems = {name: {"file_systems": tree} for name, tree in trees.items()}
    return load_config(state_dir=path / "home", **{"systems": systems, **more})


class Calls:
    """Records which parts were started and stopped, and lets the start of one fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failing: type | None = None, after: int = 0) -> None:
        self.started: list[object] = []
        self.stopped: list[object] = []
        self._patch = monkeypatch
        for part in PARTS:
            self._record(part, "start", self.started, after if part is failing else None)
            self._record(part, "stop", self.stopped, None)
        self._record(Store, "close", self.stopped, None)

    def _record(self, part: type, name: str, calls: list[object], fails_after: int | None) -> None:
        real = getattr(part, name)

        async def call(each: object, *arguments: Any, **options: Any) -> Any:
            calls.append(each)
            if fails_after is not None and sum(isinstance(one, part) for one in calls) == fails_after + 1:
                raise GatewayUnavailableError("It cannot start.")
            return await real(each, *arguments, **options)

        self._patch.setattr(part, name, call)


@pytest.mark.parametrize(
    ("failing", "after"),
    [*((part, 0) for part in PARTS), (LocalHost, 1), (LocalScheduler, 1), (TransferService, 1)],
)
async def test_a_failed_start_stops_every_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: type, after: int
) -> None:
    """`after`: with 1, the part of the first of two systems has started, and that of the second fails."""
    calls = Calls(monkeypatch, failing, after)
    before = asyncio.all_tasks()
    runtime = GatewayRuntime(config_of(tmp_path), lambda: "http://gateway")
    with pytest.raises(GatewayUnavailableError, match="It cannot start"):
        async with runtime.run():
            raise AssertionError("it has started")
    parts = [each for each in calls.stopped if not isinstance(each, Store)]
    assert set(map(id, calls.started)) <= set(map(id, parts)), "each part that was started is stopped"
    assert any(isinstance(each, Store) for each in calls.stopped)
    assert asyncio.all_tasks() <= before


async def test_parts_stop_in_the_reverse_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    before = asyncio.all_tasks()
    async with GatewayRuntime(config_of(tmp_path), lambda: "http://gateway").run():
        kinds = list(dict.fromkeys(type(each) for each in calls.started))
        assert kinds == list(PARTS)
    assert list(dict.fromkeys(type(each) for each in calls.stopped)) == [*reversed(PARTS), Store]
    assert asyncio.all_tasks() <= before


async def test_a_stop_that_fails_keeps_no_other_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    real = SystemRuntime.stop

    async def stop(system: SystemRuntime, patience: float = 0.0) -> None:
        await real(system, patience)
        if system.name == "first":
            raise GatewayUnavailableError("It cannot stop.")

    monkeypatch.setattr(SystemRuntime, "stop", stop)
    with pytest.raises(GatewayUnavailableError, match="It cannot stop"):
        async with GatewayRuntime(config_of(tmp_path), lambda: "http://gateway").run():
            pass
    assert sum(isinstance(each, LocalScheduler) for each in calls.stopped) == 2
    assert isinstance(calls.stopped[-1], Store)


async def test_a_failed_reload_closes_what_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Authorization] = []
    real = Authorization.close

    async def close(authorization: Authorization) -> None:
        closed.append(authorization)
        await real(authorization)

    monkeypatch.setattr(Authorization, "close", close)
    config = config_of(tmp_path)
    runtime = GatewayRuntime(config, lambda: "http://gateway")
    async with runtime.run():
        before = runtime.authorization
        changed = config_of(tmp_path)
        changed.systems["first"].max_ops_file_size = 10
        changed.systems["second"].max_ops_file_size = 10
        with monkeypatch.context() as patch:
            calls = Calls(patch, LocalScheduler, after=1)  # that of `second`
            with pytest.raises(GatewayUnavailableError, match="It cannot start"):
                await runtime.reload(changed)
            assert calls.started
        assert runtime.authorization is before
        assert runtime.config is config
        assert len(closed) == 1
        assert closed[0] is not before
        assert {each.config.max_ops_file_size for each in runtime.systems} == {5 * 1024 * 1024}


def test_middleware_is_one_list_from_the_outside_in() -> None:
    runtime = GatewayRuntime(GatewayConfig())
    names = [getattr(each, "func", each).__name__ for each in middleware(runtime)]
    assert names == [
        "RequestContextMiddleware",
        "AuditMiddleware",
        "routing",
        "DeadlineMiddleware",
        "AuthenticationMiddleware",
    ]
    assert set(create_app(runtime).state) == {"runtime"}
