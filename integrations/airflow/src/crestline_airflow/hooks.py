"""The connection type `firecrest`: from an Airflow connection to a system of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook

from crestline.client import BlockingSystem, Site, System, connect, connect_blocking, find_site
from crestline.model import ConfigError, CrestlineError

if TYPE_CHECKING:
    from airflow.sdk import Connection


class FirecRESTHook(BaseHook):
    """Opens systems of the gateway that a connection describes.

    The connection's host is the gateway's URL, login and password are a client's id and secret. Its extra holds
    `token_url`, a `system` for tasks that name none, and whatever else a site of the sites file may have. Where
    `firecrest_default` is not defined, the `FIRECREST_*` variables and the sites file of the machine hold, as
    everywhere in Crestline.

    All systems that one process opens for one identity share a token, and in one event loop sockets and the job
    monitor, too.
    """

    conn_name_attr = "firecrest_conn_id"
    default_conn_name = "firecrest_default"
    conn_type = "firecrest"
    hook_name = "FirecREST"

    def __init__(self, firecrest_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.firecrest_conn_id = firecrest_conn_id
        self._site: Site | None = None

    def get_conn(self, system: str | None = None) -> BlockingSystem:
        """A system, to be used in a `with`.

        Args:
            system: its name; None: the one that the connection names.

        Raises:
            ConfigError: the connection lacks something.
            AirflowNotFoundException: there is no such connection.
        """
        if self._site is None:
            try:
                self._site = _site(self.get_connection(self.firecrest_conn_id))
            except AirflowNotFoundException:
                if self.firecrest_conn_id != self.default_conn_name:
                    raise
                self._site = _site_of_the_machine()
        return connect_blocking(self._site, system=system)

    async def aget_conn(self, system: str | None = None) -> System:
        """As `get_conn`, for triggers: to be used in an `async with`."""
        if self._site is None:
            try:
                self._site = _site(await self.aget_connection(self.firecrest_conn_id))
            except AirflowNotFoundException:
                if self.firecrest_conn_id != self.default_conn_name:
                    raise
                self._site = _site_of_the_machine()
        return connect(self._site, system=system)

    def test_connection(self) -> tuple[bool, str]:
        """What the test button of the connection form shows: whether the gateway knows us, and what it serves."""
        try:
            with self.get_conn() as system:
                return True, f"{system.gateway_url} serves {system.name}; your directory is {system.default_workdir()}."
        except (CrestlineError, AirflowNotFoundException) as error:
            return False, str(error)


def _site_of_the_machine() -> Site:
    site, system = find_site()
    return msgspec.structs.replace(site, system=system)


def _site(connection: Connection) -> Site:
    url = connection.host or ""
    if "://" not in url:
        raise ConfigError(
            f"The connection {connection.conn_id} has no gateway URL.", hint="Put it into Host, with its https://."
        )
    known = {
        "name": connection.conn_id,
        "url": url,
        "client_id": connection.login,
        "client_secret": connection.password,
    }
    extra = {key: value for key, value in connection.extra_dejson.items() if value not in (None, "")}
    try:
        return msgspec.convert(known | extra, Site)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"The extra of connection {connection.conn_id} cannot be used: {error}.", hint="Check its keys."
        ) from None
