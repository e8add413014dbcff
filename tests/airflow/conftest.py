"""One Airflow for all tests of this folder, with a database of its own."""

from __future__ import annotations

import json
import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from harness import airflow_dags
from harness.gateway import RunningGateway

_HOME = tempfile.TemporaryDirectory(prefix="airflow-")
airflow_dags.configure(Path(_HOME.name))

from airflow.providers.common.compat.sdk import (  # noqa: E402 - only now is it known where Airflow's home is
    get_listener_manager,
    hookimpl,
)

Connect = Callable[..., None]


@pytest.fixture(scope="session", autouse=True)
def _airflow() -> Iterator[None]:
    airflow_dags.make_database()
    yield
    _HOME.cleanup()


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Define an Airflow connection to any gateway: `define(running, password="wrong")`."""

    def define(running: Any, conn_id: str = "firecrest_default", **fields: Any) -> None:
        client_id, secret = (
            running.client if isinstance(running, RunningGateway) else (running.client_id, running.client_secret)
        )
        connection = {
            "conn_type": "firecrest",
            "host": running.url,
            "login": client_id,
            "password": secret,
            "extra": {"auth_url": running.token_url, "system": running.system},
        }
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(connection | fields))

    return define


@pytest.fixture
def workdir(gateway: RunningGateway, define: Connect, tmp_path: Path) -> Path:
    """A directory of the gateway's default file system, one for each test; the default connection leads there."""
    define(gateway)
    directory = gateway.home / "files" / tmp_path.name
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """A task takes over SIGTERM in its process, which is pytest's here."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


class TaskLog:
    """What tasks logged and why they failed, in this process."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str]] = []
        self.errors: list[str] = []
        self._actions: dict[str, Callable[[], Any]] = {}

    def when(self, text: str, action: Callable[[], Any]) -> None:
        """Do something in another thread, once, as soon as a line with this text has been logged."""
        self._actions[text] = action

    def lines(self, logger: str) -> list[str]:
        """The lines of loggers that have `logger` in their names."""
        return [line for name, line in self.entries if logger in name]

    def add(self, logger: Any, level: str, event: dict[str, Any]) -> Any:
        line = str(event.get("event"))
        self.entries.append((logger.name, line))
        for text in [text for text in self._actions if text in line]:
            threading.Thread(target=self._actions.pop(text)).start()
        raise structlog.DropEvent

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        self.errors.append(str(error))


class _NamedLogger:
    def __init__(self, name: str = "") -> None:
        self.name = name


@pytest.fixture
def task_log() -> Iterator[TaskLog]:
    log = TaskLog()
    before = structlog.get_config()
    structlog.configure(
        processors=[log.add],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_NamedLogger,
        cache_logger_on_first_use=False,
    )
    get_listener_manager().add_listener(log)
    yield log
    get_listener_manager().pm.unregister(log)
    structlog.configure(**before)
