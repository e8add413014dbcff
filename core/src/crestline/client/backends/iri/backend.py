"""The backend of a site with `api = "iri"`."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import httpx
import msgspec

from crestline.client.auth import Authorizer
from crestline.client.backends.base import Backend
from crestline.client.backends.iri.calls import Calls
from crestline.client.backends.iri.files import Files
from crestline.client.backends.iri.jobs import Jobs
from crestline.client.backends.iri.system import (
    System,
    entry_of,
    fetch_resources,
    is_compute,
    name_of,
    pick_compute,
    pick_files,
)
from crestline.client.backends.iri.tasks import TaskMonitor
from crestline.client.backends.iri.transfers import Transfers
from crestline.client.backends.messages import Description
from crestline.client.policy import Policy
from crestline.model import ConfigError
from crestline.wire.iri import SIZE_LIMIT


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a site's `options` say; all may be absent."""

    filesystem: str | None = None
    """name or id of the storage resource; default: the only one, or the one in the compute resource's group"""
    workdir: str | None = None
    """absolute path of the user's directory, where the facility does not tell it"""
    scheduler: str = "slurm"
    """`slurm` or `pbs`"""
    custom_attributes: Mapping[str, str] = {}
    """sent with every job (`{filesystems = "home:eagle"}` at ALCF)"""
    transfer_directives: Sequence[Annotated[str, msgspec.Meta(pattern=r"^#SBATCH +-[^\n]*$")]] = ()
    """`#SBATCH` lines of the jobs that join and split large files, for example `#SBATCH --partition=debug`"""


class _Ids(msgspec.Struct, kw_only=True):
    """What was found out when the facility was opened, kept in its description."""

    base: str
    version: int
    compute: str
    files: str | None = None


class IriBackend(Backend):
    """One compute resource of an IRI facility, with one of its storage resources.

    Args:
        url: base URL of the API (`https://api.example.gov/api/v1`), or the root below which `api/v2` or `api/v1` is.
        system: name or id of the compute resource; None: the only one.
        options: what the site's `options` say.
    """

    transfer_service = None

    def __init__(
        self,
        url: str,
        system: str | None,
        authorizer: Authorizer,
        *,
        account: str | None = None,
        verify: ssl.SSLContext | bool = True,
        policy: Policy | None = None,
        known: Description | None = None,
        options: Mapping[str, Any] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        try:
            self._options = msgspec.convert(options or {}, Options)
        except msgspec.ValidationError as error:
            raise ConfigError(f"Invalid `options` for {url}: {error}.", hint="Correct them.") from None
        self._calls = Calls(url, authorizer, verify=verify, policy=policy or Policy(), transport=transport)
        self._tasks: TaskMonitor | None = None
        self._account = account
        self._known = known
        self.gateway_url = self._calls.url
        self.system_name = system or ""
        self.identity = authorizer.identity
        self.capabilities = frozenset()
        self.scheduler_type = self._options.scheduler
        self.max_direct_upload = self.max_direct_download = SIZE_LIMIT
        self.traffic = self._calls.traffic
        self.verify = verify

    async def open(self) -> None:
        self.description = self._known or await self._introduction()
        ids = msgspec.convert(self.description.system["iri"], _Ids)
        self._calls.use_version(ids.base, ids.version)
        self.system_name = str(self.description.system["name"])
        if ids.files is None:
            self.max_direct_upload = self.max_direct_download = 0
        self._tasks = TaskMonitor(self._calls)
        name = self.system_name
        self.system = system = System(
            self._calls, self.scheduler_type, name, ids.compute, ids.files, self._options.workdir
        )
        self.jobs = Jobs(
            self._calls,
            name,
            ids.compute,
            self._account,
            self._options.custom_attributes,
            has_patterns=self.scheduler_type != "pbs",
        )
        self.files = Files(self._calls, self._tasks, name, ids.files)
        self.transfers = Transfers(self.jobs, self.files, system, self._options.transfer_directives)

    async def _introduction(self) -> Description:
        resources = await fetch_resources(self._calls)
        compute = pick_compute(self._calls, resources, self.system_name)
        files = pick_files(resources, compute, self._options.filesystem)
        ids = _Ids(
            base=self._calls.base,
            version=self._calls.version,
            compute=compute.id,
            files=files.id if files is not None else None,
        )
        entry = entry_of(compute, self.scheduler_type) | {"iri": msgspec.to_builtins(ids)}
        return Description(features=[], system=entry, asked=time.time())

    async def close(self) -> None:
        if self._tasks is not None:
            await self._tasks.close()
        await self._calls.close()

    async def systems(self) -> list[dict[str, Any]]:
        resources = await fetch_resources(self._calls)
        return [entry_of(each, self.scheduler_type) | {"name": name_of(each)} for each in resources if is_compute(each)]
