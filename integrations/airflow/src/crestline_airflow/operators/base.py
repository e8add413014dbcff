"""The base class of all operators."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.providers.common.compat.sdk import BaseOperator

from crestline_airflow.hooks import FirecRESTHook
from crestline_airflow.rendered import ExactRendering


class FirecRESTBaseOperator(ExactRendering, BaseOperator):
    """An operator that works on one system.

    Args:
        system: the system's name. None: the system of the connection.
        firecrest_conn_id: the Airflow connection.
    """

    def __init__(
        self, *, system: str | None = None, firecrest_conn_id: str = FirecRESTHook.default_conn_name, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.system = system
        self.firecrest_conn_id = firecrest_conn_id

    @cached_property
    def hook(self) -> FirecRESTHook:
        """The hook that opens systems of the connection."""
        return FirecRESTHook(self.firecrest_conn_id)
