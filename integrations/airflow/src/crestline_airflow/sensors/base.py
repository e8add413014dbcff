"""What both sensors have: a system of a connection, and waiting in the triggerer."""

from __future__ import annotations

import abc
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
    conf,
)

from crestline.model import GatewayUnavailableError, RateLimitedError
from crestline_airflow.hooks import FirecRESTHook
from crestline_airflow.rendered import ExactRendering
from crestline_airflow.triggers import unpacked

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger


class FirecRESTBaseSensor(ExactRendering, BaseSensorOperator):
    """A sensor on one system. While the gateway or its token issuer is down, it waits.

    Args:
        system: the system's name; None: the one that the connection names.
        firecrest_conn_id: the Airflow connection.
        deferrable: wait in the triggerer, not on a worker. Default: `[operators] default_deferrable`.
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
            return self.look()
        except (GatewayUnavailableError, RateLimitedError) as error:
            self.log.warning("%s", error)
            return PokeReturnValue(is_done=False)

    @abc.abstractmethod
    def look(self) -> PokeReturnValue:
        """Ask the gateway once whether there is still something to wait for."""

    def wait_in_triggerer(self, trigger: BaseTrigger) -> None:
        """Go on in `execute_complete` with the trigger's event; after `timeout` the sensor has failed."""
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    def payload(self, event: Any) -> Any:
        """The event of a trigger.

        Raises:
            CrestlineError: the trigger has failed with it.
            AirflowSkipException: it has failed, and the sensor has `soft_fail` or `never_fail`.
        """
        if not isinstance(event, dict) or "error" not in event:
            return event
        error = unpacked(event["error"])
        if self.soft_fail or self.never_fail:
            raise AirflowSkipException(str(error)) from error
        raise error
