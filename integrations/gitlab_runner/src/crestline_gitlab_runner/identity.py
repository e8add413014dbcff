"""The identity at the gateway: the project's own client if its variables name one and the site allows it, otherwise the
runner's.

Addresses come only from the configuration. A job's variables can repeat them but not change them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

import msgspec

from crestline_gitlab_runner.ci_job import CiJob
from crestline_gitlab_runner.failures import BuildFailureError
from crestline_gitlab_runner.settings import Settings, secret_file

if TYPE_CHECKING:
    from crestline.client import Policy, Site, System

Connect = Callable[[], AbstractAsyncContextManager["System"]]
"""Opens the system with the identity of one CI job."""

_MOST_RETRIES = 1000
"""Number of retries so large that only the time limits them."""
_ID, _SECRET = "F7T_CLIENT_ID", "F7T_CLIENT_SECRET"


def project_client(settings: Settings, job: CiJob | None) -> tuple[str, str] | None:
    """Return the id and secret in the job's variables, or None.

    Raises:
        BuildFailureError: one of them is missing, the addresses differ, or the site does not allow it.
    """
    if job is None:
        return None
    values = job.variables
    client_id, secret = values.get(_ID, ""), values.get(_SECRET, "")
    if not client_id and not secret:
        return None
    if not settings.gateway.allow_job_credentials:
        raise BuildFailureError(
            f"This runner does not take {_ID} and {_SECRET}.", hint="Remove them, or ask who runs the runner."
        )
    if not client_id or not secret:
        raise BuildFailureError(
            f"Only one of {_ID} and {_SECRET} is set.",
            hint="Protected variables are there only on protected branches; set both.",
        )
    for name, configured in (("F7T_URL", settings.gateway.url), ("F7T_TOKEN_URL", settings.gateway.token_url or "")):
        asked = values.get(name, "")
        if asked and asked.rstrip("/") != configured.rstrip("/"):
            raise BuildFailureError(
                f"{name} is not the address that this runner uses.", hint="Credentials go there only: remove it."
            )
    return client_id, secret


def policy(settings: Settings) -> Policy:
    """Return how the driver polls, and retries each request until `gateway_budget` is used up."""
    from crestline.client import Policy, PollPolicy, RetryPolicy

    return Policy(
        retry=RetryPolicy(attempts=_MOST_RETRIES, total_timeout=float(settings.gateway_budget)),
        poll=PollPolicy(min_interval=0.5, max_interval=5.0, unseen_timeout=None),
    )


def site(settings: Settings, job: CiJob | None) -> Site:
    """Return the gateway's site with the identity of this job.

    Args:
        job: None for work that no job asked for (`gc`): the runner's own identity.

    Raises:
        ConfigError: the runner's identity cannot be used.
        BuildFailureError: as `project_client`.
    """
    from crestline.client import ADDRESS_FIELDS, Site, find_site

    gateway = settings.gateway
    addresses: dict[str, Any] = {
        **{name: getattr(gateway, name) for name in ADDRESS_FIELDS},
        "name": settings.name,
        "token_url": gateway.token_url,
        "system": gateway.system,
        "account": settings.job.account,
    }
    if client := project_client(settings, job):
        return Site(**addresses, client_id=client[0], client_secret=client[1])
    if gateway.site is not None:
        found, _ = find_site(gateway.site)
        account = settings.job.account or found.account
        return msgspec.structs.replace(found, name=settings.name, system=gateway.system, account=account)
    return Site(
        **addresses,
        client_id=_from_file(gateway.client_id_file, "client_id_file", gateway.client_id),
        client_secret=_from_file(gateway.client_secret_file, "client_secret_file", gateway.client_secret),
        api_key=_from_file(gateway.api_key_file, "api_key_file", None),
        token_command=gateway.token_command,
    )


def _from_file(name: str | None, what: str, otherwise: str | None) -> str | None:
    return secret_file(name, what) if name else otherwise
