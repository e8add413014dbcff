"""The client: jobs and files on any system behind a FirecREST v2 gateway.

    async with crestline.connect("daint@cscs") as daint:
        job = await daint.wait(await daint.submit(spec, key="one-attempt"))

`system` is the user's interface, `blocking` the same without `await`, and `federation` chooses among several sites.
Below them are `submission` (exactly once), `monitor` (all waiting), `files` and `logs`, `backends` (one package per
facility API), `auth` (credentials) and `config` (sites and systems).
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
    """A system, to be used in an `async with`.

    Args:
        target: `system@site`, or the name of a site, or a `Site`. None: what the `FIRECREST_*` variables say, or else
            the default or only site of the sites file.
        system: the system's name where the target has none.
        policy: retry, polling and submission settings.
        authorizer: credentials to use in place of the site's.
        session_cache: a file in a private directory, through which processes of one identity that live for seconds hand
            the access token and what the gateway said of itself on to each other.
        transport: carries the requests in place of the network, as httpx's own `transport` does; for tests.

    Raises:
        ConfigError: the site does not exist, or it has no credentials.
    """
    if isinstance(target, Site):
        site, named = target, target.system
    else:
        site, named = find_site(target)
    return System(site, system or named, policy or Policy(), authorizer, session_cache, transport)


def connect_blocking(
    target: str | Site | None = None, *, system: str | None = None, policy: Policy | None = None
) -> BlockingSystem:
    """As `connect`, without `await`: to be used in a `with`."""
    from crestline.client.blocking import BlockingSystem

    return BlockingSystem(connect(target, system=system, policy=policy))
