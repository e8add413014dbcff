"""`firecrest://<connection>@<system>/<absolute path>` for `ObjectStoragePath`."""

from __future__ import annotations

import asyncio
from typing import Any

from crestline.client import System, connect
from crestline.fsspec import FirecRESTFileSystem
from crestline_airflow.hooks import FirecRESTHook

schemes = ["firecrest"]


def get_fs(conn_id: str | None, storage_options: dict[str, Any] | None = None) -> FirecRESTFileSystem:
    """Return the file system for the scheme, for Airflow."""
    return ConnectionFileSystem(conn_id=conn_id or FirecRESTHook.default_conn_name, **(storage_options or {}))


class ConnectionFileSystem(FirecRESTFileSystem):
    """The systems of an Airflow connection; a path is `<system>/<absolute path there>`.

    Args:
        conn_id: a connection of the type `firecrest`.
    """

    def __init__(self, conn_id: str = FirecRESTHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self._hook = FirecRESTHook(conn_id)

    @property
    def fsid(self) -> str:
        return f"{self.protocol}-{self.conn_id}"

    async def _connected(self, name: str) -> System:
        return connect(await asyncio.to_thread(self._hook.site), system=name)
