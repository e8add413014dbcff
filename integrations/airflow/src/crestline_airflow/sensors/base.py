"""The common part of both sensors: a system of a connection, and waiting in the triggerer."""

from __future__ import annotations

import abc
from collections.abc import Callable
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from crestline.model import CrestlineError, GatewayUnavailableError, JobFailedError, RateLimitedError
from crestline_airflow.hooks import FirecRESTHook
from crestline_airflow.rendered import ExactRendering
from crestline_airflow.triggers import unpacked

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger


class FirecRESTBaseSensor(ExactRendering, BaseSensorOperator):
    """A sensor on one system. It keeps waiting while the gateway or its token issuer is unavailable.

    Args:
        system: the system's name; None: the connection's.
        firecrest_conn_id: the Airflow connection.
        deferrable: wait in the triggerer, not on a worker. Default: `[operators] default_deferrable`. With
            `silent_fail`,
            which repeats a check after an error, the sensor waits on a worker.
    """

    def __init__(
        self,
        *,
        system: str | None = None,
        firecrest_conn_id: str = FirecRESTHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.system = system
        self.firecrest_conn_id = firecrest_conn_id
        self.deferrable = deferrable

    @cached_property
    def hook(self) -> FirecRESTHook:
        """The hook that opens systems of the connection."""
        return FirecRESTHook(self.firecrest_conn_id)

    def poke(self, context: Context) -> PokeReturnValue:
        try:
            return self.poll_once()
        except (GatewayUnavailableError, RateLimitedError) as error:
            self.log.warning("%s", error)
            return PokeReturnValue(is_done=False)

    @abc.abstractmethod
    def poll_once(self) -> PokeReturnValue:
        """Check once whether the condition holds."""

    @abc.abstractmethod
    def trigger(self) -> BaseTrigger:
        """Return the trigger that waits in the triggerer."""

    def execute(self, context: Context) -> Any:
        on_worker = super().execute
        return self._run(
            lambda: self._wait(context) if self.deferrable and not self.silent_fail else on_worker(context)
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        resume = super().resume_execution
        return self._run(lambda: resume(next_method, next_kwargs, context))

    def _wait(self, context: Context) -> Any:
        done = self.poke(context)
        if done.is_done:
            return done.xcom_value
        self.defer(trigger=self.trigger(), method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    def payload(self, event: Any) -> Any:
        """Return the event of a trigger.

        Raises:
            CrestlineError: the trigger has failed with it.
        """
        if isinstance(event, dict) and "error" in event:
            raise unpacked(event["error"])
        return event

    def _run(self, wait: Callable[[], Any]) -> Any:
        """Fail in the same way on a worker and after a deferral: with `never_fail`, an error skips the task.

        `soft_fail` concerns the sensor's condition: of all errors, it covers the end of a failed job.
        """
        try:
            return wait()
        except CrestlineError as error:
            if self.never_fail or (self.soft_fail and isinstance(error, JobFailedError)):
                raise AirflowSkipException(str(error)) from None
            raise error.with_traceback(None) from None
