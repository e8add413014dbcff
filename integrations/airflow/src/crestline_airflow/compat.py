"""Differences between Airflow versions before 3.3 and later ones."""

from __future__ import annotations

import inspect
from typing import Any

from airflow.triggers.base import BaseTrigger

try:
    from airflow.sdk.exceptions import AirflowFailException, TaskDeferralError, TaskDeferralTimeout, TaskDeferred
except ImportError:
    from airflow.exceptions import (  # type: ignore[no-redef,attr-defined]
        AirflowFailException,
        TaskDeferralError,
        TaskDeferralTimeout,
        TaskDeferred,
    )

try:
    from airflow.sdk.definitions.context import KNOWN_CONTEXT_KEYS
except ImportError:
    from airflow.utils.context import KNOWN_CONTEXT_KEYS  # type: ignore[no-redef,attr-defined]

try:
    from airflow.sdk.definitions import retry_policy

    HAS_POLICIES = bool(retry_policy)
except ImportError:
    HAS_POLICIES = False
"""Whether Airflow calls a task's retry policy."""

HAS_ON_KILL = hasattr(BaseTrigger, "on_kill")
"""Whether Airflow notifies a trigger when its task is ended."""

__all__ = [
    "HAS_ON_KILL",
    "HAS_POLICIES",
    "KNOWN_CONTEXT_KEYS",
    "AirflowFailException",
    "TaskDeferralError",
    "TaskDeferralTimeout",
    "TaskDeferred",
    "handle_output",
]


def handle_output(operator: Any, value: Any) -> Any:
    """Handle the return value of a decorated task: an asset becomes an outlet of the task."""
    others = [name for name in inspect.signature(operator._handle_output).parameters if name != "return_value"]
    return operator._handle_output(return_value=value, **dict.fromkeys(others))
