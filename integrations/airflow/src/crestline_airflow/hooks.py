"""The connection type `firecrest`: from an Airflow connection to a system of the client."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from airflow.providers.common.compat.connection import get_async_connection, get_async_extra_dejson
from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, conf

from crestline.client import (
    BlockingSystem,
    Policy,
    PollPolicy,
    Site,
    System,
    connect,
    connect_blocking,
    find_site,
    list_systems,
)
from crestline.model import ConfigError, CrestlineError
from crestline_airflow.connection_url import gateway_url
from crestline_airflow.rendered import required, single

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["FirecRESTHook"]

_LOCAL_CREDENTIALS = ("token_command", "client_secret_file")
"""what makes the worker run a program, or send a file of its own to the gateway that the connection names"""

_POLICY = Policy(poll=PollPolicy(unseen_timeout=None))
"""Ids come from tasks that may just have submitted their jobs."""

_VISIBLE_NAMES = {
    "auth_url": "token_url",
    "auth_command": "token_command",
    "credential_file": "client_secret_file",
    "key_header": "api_key_header",
}
"""Names of fields that are not secret. Airflow masks the values of names that contain `token`, `secret` or `api_key`,
in the form and in each line of each log."""


class FirecRESTHook(BaseHook):
    """Opens systems of the gateway that a connection describes.

    The connection's host is the gateway's URL, login and password are a client's id and secret. Its extra holds
    `auth_url` (where tokens are fetched), a default `system`, `refresh_token`, `api_key` or `auth_command` in the place
    of a client, `job_page`, and all other fields of a site of the sites file. Where `firecrest_default` is not
    defined, the `FIRECREST_*` variables and the sites file of the machine hold, as everywhere in Crestline.

    Example, in a task of Python::

        with FirecRESTHook("my_gateway").get_conn("daint") as system:
            print(system.ls("/scratch/u/run1"))

    All systems that one process opens for one identity share a token, and in one event loop sockets and the job
    monitor, too.
    """

    conn_name_attr = "firecrest_conn_id"
    default_conn_name = "firecrest_default"
    conn_type = "firecrest"
    hook_name = "FirecREST"

    def __init__(self, firecrest_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.firecrest_conn_id = required(firecrest_conn_id, "firecrest_conn_id")
        self._site: Site | None = None
        self._job_page: str | None = None

    def get_conn(self, system: str | None = None) -> BlockingSystem:
        """A system, to be used in a `with`.

        Args:
            system: its name; None: the one that the connection names.

        Raises:
            ConfigError: the connection lacks something.
            AirflowNotFoundException: the connection does not exist.
        """
        return connect_blocking(self.site(), system=single(system, "system"), policy=_POLICY)

    async def aget_conn(self, system: str | None = None) -> System:
        """As `get_conn`, for triggers: to be used in an `async with`."""
        if self._site is None:
            try:
                connection = await get_async_connection(self.firecrest_conn_id, self)
                self._read_field(connection, await get_async_extra_dejson(connection))
            except AirflowNotFoundException:
                if self.firecrest_conn_id != self.default_conn_name:
                    raise
                self._site = _site_of_the_machine()
        return connect(self.site(), system=single(system, "system"), policy=_POLICY)

    def site(self) -> Site:
        """The gateway and the identity that the connection describes. Raises as `get_conn`."""
        if self._site is None:
            try:
                connection = self.get_connection(self.firecrest_conn_id)
                self._read_field(connection, connection.extra_dejson)
            except AirflowNotFoundException:
                if self.firecrest_conn_id != self.default_conn_name:
                    raise
                self._site = _site_of_the_machine()
        assert self._site is not None  # noqa: S101
        return self._site

    def job_page(self, system: str, job_id: str, *, of_gateway: bool = True) -> str:
        """Where people look at a job: `job_page` of the connection, or else the gateway's own page.

        Args:
            of_gateway: whether the gateway has pages, which a plain FirecREST has not; the answer may be empty then.

        Raises:
            ConfigError: `job_page` is not a URL with the placeholders `{system}` and `{job_id}`.
        """
        gateway = self.site().url.rstrip("/")
        if not self._job_page and not of_gateway:
            return ""
        page = self._job_page or f"{gateway}/#/jobs/{{system}}/{{job_id}}"
        try:
            url = page.format(system=quote(system, safe=""), job_id=quote(job_id, safe=""))
        except (LookupError, ValueError):
            url = ""
        if not url.startswith(("https://", "http://")):
            raise ConfigError(
                f"The job_page of connection {self.firecrest_conn_id} is not a URL: {page!r}.",
                hint="Write it as https://monitoring.example.org/jobs/{system}/{job_id}.",
            )
        return url

    def test_connection(self) -> tuple[bool, str]:
        """What the test button of the connection form shows: whether the gateway knows us, and what it serves."""
        try:
            site = self.site()
            if site.system is None:
                names = [str(system.get("name")) for system in asyncio.run(list_systems(site))]
                if len(names) != 1:
                    return True, f"{site.url} serves {', '.join(names) or 'no system'}; no system is the default."
            with self.get_conn() as system:
                return True, f"{system.gateway_url} serves {system.name}; your directory is {system.default_workdir()}."
        except (CrestlineError, AirflowNotFoundException) as error:
            return False, str(error)

    def _read_field(self, connection: Connection, extra: Any) -> None:
        if not isinstance(extra, dict):
            raise ConfigError(
                f"The extra of connection {connection.conn_id} is JSON, but not an object.",
                hint='Write it as {"auth_url": "https://...", "system": "..."}.',
            )
        extra = {key: _text(value) for key, value in extra.items() if value not in (None, "")}
        self._job_page = extra.pop("job_page", None)
        self._site = _site(connection, extra)


def _site_of_the_machine() -> Site:
    site, system = find_site()
    return msgspec.structs.replace(site, system=system)


def _site(connection: Connection, extra: dict[str, Any]) -> Site:
    url = gateway_url(connection)
    extra = _site_fields(connection, extra)
    for name in _LOCAL_CREDENTIALS:
        if name in extra and not conf.getboolean("firecrest", "allow_local_credentials", fallback=False):
            raise ConfigError(
                f"The connection {connection.conn_id} has a {name}, which makes workers run a program or read a file.",
                hint="If who may edit connections may do that, set AIRFLOW__FIRECREST__ALLOW_LOCAL_CREDENTIALS=True.",
            )
    if isinstance(command := extra.get("token_command"), str):
        try:
            extra["token_command"] = shlex.split(command)
        except ValueError as error:
            raise ConfigError(
                f"The token_command of connection {connection.conn_id} is not a command line: {error}.",
                hint="Check its quotes.",
            ) from None
    if isinstance(options := extra.get("options"), str):  # a URI's query has only texts
        try:
            extra["options"] = msgspec.json.decode(options)
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"The options of connection {connection.conn_id} are not JSON: {error}.",
                hint='Write them as {"workdir": "/scratch/me"}.',
            ) from None
    known = {
        "name": connection.conn_id,
        "url": url,
        "client_id": connection.login,
        "client_secret": connection.password,
    }
    for name, field in (
        ("url", "Host"),
        ("name", "Connection ID"),
        ("client_id", "Login"),
        ("client_secret", "Password"),
    ):
        if name in extra and known[name] and extra[name] != known[name]:
            raise ConfigError(
                f"In connection {connection.conn_id}, {name} in the extra and {field} differ.",
                hint=f"Remove {name} from the extra.",
            )
    try:
        return msgspec.convert(known | extra, Site, strict=False)  # the query of a URI has only texts
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"The extra of connection {connection.conn_id} cannot be used: {error}.", hint="Check its keys."
        ) from None


def _text(value: Any) -> Any:
    """A number as the text that the field of a site has, such as an account; a text is converted where need be."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _site_fields(connection: Connection, extra: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in extra.items():
        field = _VISIBLE_NAMES.get(name, name)
        if fields.setdefault(field, value) != value:
            names = " and ".join(other for other in extra if _VISIBLE_NAMES.get(other, other) == field)
            raise ConfigError(
                f"In the extra of connection {connection.conn_id}, {names} mean the same and differ.",
                hint="Remove one of them.",
            )
    return fields
