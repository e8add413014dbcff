"""What of Airflow's log the demonstration shows: how tasks begin and end, what the job writes, and errors."""

from __future__ import annotations

import logging
import time
from typing import Any

import structlog
from airflow.listeners import hookimpl

_JOB = "crestline_airflow.operators.submit"


def narrate() -> Narrator:
    """Show only that from now on; returns what must be told of tasks as a listener of Airflow."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[structlog.processors.ExceptionRenderer(), _show],
        logger_factory=_Logger,
    )
    return Narrator()


class Narrator:
    """Airflow calls it when a task changes its state."""

    def __init__(self) -> None:
        self._begun = 0.0

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        self._begun = time.monotonic()
        _line(task_instance.task_id, "running")

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        _line(task_instance.task_id, f"success, {time.monotonic() - self._begun:.1f} s")

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        _line(task_instance.task_id, f"failed: {error}")


class _Logger:
    """All that is left of a logger once everything is shown or dropped: its name."""

    def __init__(self, name: str = "") -> None:
        self.name = name


def _show(logger: _Logger, level: str, event: dict[str, Any]) -> Any:
    text = event.get("event")
    if _JOB in logger.name and level == "info":
        print("      |", text, flush=True)
    elif level in ("error", "critical", "exception") and text != "Task failed with exception":  # the listener tells
        print("   ", text, event.get("exception", ""), flush=True)
    raise structlog.DropEvent


def _line(task: str, news: str) -> None:
    print(f"  {task:<14}  {news}", flush=True)
