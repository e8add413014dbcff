"""The client: jobs and files on any system behind a FirecREST v2 gateway or another facility API.

    async with crestline.connect("daint@cscs") as daint:
        job = await daint.wait(await daint.submit(spec, key="one-attempt"))

`system` is the user's interface, `blocking` the same without `await`, and `federation` chooses among several sites.
They build on `submission` (exactly-once submission), `monitor` (polling), `files`, `logs`, `backends` (one package per
facility API), `auth` (credentials) and `config` (sites).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crestline.client.backends.capabilities import Capability
from crestline.client.config import (
    ADDRESS_FIELDS,
    Site,
    find_site,
    load_sites,
    register_site,
    site_from_environment,
    sites_file,
)
from crestline.client.policy import Policy, PollPolicy, RetryPolicy, SubmitPolicy
from crestline.client.system import System
from crestline.lazy_exports import lazy_exports

if TYPE_CHECKING:
    import httpx

    from crestline.client.api_keys import create_api_key, list_api_keys, revoke_api_key
    from crestline.client.auth import Authorizer
    from crestline.client.blocking import BlockingSystem
    from crestline.client.federation import Choice, choose_system, connect_any
    from crestline.client.files import BundleFile, BundleFilter, IgnoreRules, TransferReport, map_link
    from crestline.client.logs import JobOutput, OutputLine
    from crestline.client.monitor import JobMonitor
    from crestline.client.submit_guard import DUPLICATE_EXIT_CODE
    from crestline.client.systems import list_systems
    from crestline.client.traffic import Traffic, measure_traffic
    from crestline.client.watched_job import JobEvent

__all__ = [
    "ADDRESS_FIELDS",
    "DUPLICATE_EXIT_CODE",
    "Authorizer",
    "BlockingSystem",
    "BundleFile",
    "BundleFilter",
    "Capability",
    "Choice",
    "IgnoreRules",
    "JobEvent",
    "JobMonitor",
    "JobOutput",
    "OutputLine",
    "Policy",
    "PollPolicy",
    "RetryPolicy",
    "Site",
    "SubmitPolicy",
    "System",
    "Traffic",
    "TransferReport",
    "choose_system",
    "connect",
    "connect_any",
    "connect_blocking",
    "create_api_key",
    "find_site",
    "list_api_keys",
    "list_systems",
    "load_sites",
    "map_link",
    "measure_traffic",
    "register_site",
    "revoke_api_key",
    "site_from_environment",
    "sites_file",
]

__getattr__ = lazy_exports(
    __name__,
    {
        "crestline.client.api_keys": ("create_api_key", "list_api_keys", "revoke_api_key"),
        "crestline.client.auth": ("Authorizer",),
        "crestline.client.blocking": ("BlockingSystem",),
        "crestline.client.federation": ("Choice", "choose_system", "connect_any"),
        "crestline.client.files": ("IgnoreRules", "BundleFile", "TransferReport", "BundleFilter", "map_link"),
        "crestline.client.logs": ("JobOutput", "OutputLine"),
        "crestline.client.monitor": ("JobMonitor",),
        "crestline.client.submit_guard": ("DUPLICATE_EXIT_CODE",),
        "crestline.client.systems": ("list_systems",),
        "crestline.client.traffic": ("Traffic", "measure_traffic"),
        "crestline.client.watched_job": ("JobEvent",),
    },
)


def connect(
    target: str | Site | None = None,
    *,
    system: str | None = None,
    policy: Policy | None = None,
    authorizer: Authorizer | None = None,
    session_cache: Path | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> System:
    """Return a system, to be opened by `async with`.

    Args:
        target: `system@site`, the name of a site, or a `Site`. None: the site of the `FIRECREST_*` variables, else
            the default or only site of the sites file.
        system: name of the system, if the target has none.
        policy: retry, polling and submission settings.
        authorizer: credentials to use in place of the site's.
        session_cache: file in a private directory through which short-lived processes of one user share the access
            token and the gateway's description.
        transport: httpx transport that replaces the network, for tests.

    Raises:
        ConfigError: the site does not exist, or the sites file is invalid.

    Example::

        async with crestline.connect("daint@cscs") as daint:
            for job in await daint.jobs():
                print(job.job_id, job.state)
    """
    if isinstance(target, Site):
        site, named = target, target.system
    else:
        site, named = find_site(target)
    return System(site, system or named, policy or Policy(), authorizer, session_cache, transport)


def connect_blocking(
    target: str | Site | None = None, *, system: str | None = None, policy: Policy | None = None
) -> BlockingSystem:
    """Return a system whose methods need no `await`, to be opened by `with`. The arguments are those of `connect`.

    Raises:
        ConfigError: the site does not exist, or the sites file is invalid.

    Example::

        with crestline.connect_blocking("daint@cscs") as daint:
            print(daint.jobs())
    """
    from crestline.client.blocking import BlockingSystem

    return BlockingSystem(connect(target, system=system, policy=policy))
