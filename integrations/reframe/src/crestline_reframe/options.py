"""The gateway in a site configuration: `sched_options`, key `firecrest`.

    'sched_options': {'firecrest': {'site': 'daint@cscs', 'basedir': '/scratch/me/reframe'}}

Other settings come from the sites file and the `FIRECREST_*` variables, as for every Crestline client.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
from reframe.core.exceptions import ConfigError as ReframeConfigError

from crestline.client import ADDRESS_FIELDS, Authorizer, Policy, PollPolicy, RetryPolicy, Site, SubmitPolicy, find_site
from crestline.model import ConfigError
from crestline.plain_http import bare

_IDENTITY_FIELDS = ("token_url", "client_id", "client_secret_file", "token_command", "scope")
_SECRETS = frozenset({"client_secret", "token", "api_key", "refresh_token"})


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keys of `firecrest` in `sched_options`. All are optional."""

    site: str | None = None
    """`system@site`, or a site of the sites file."""
    system: str | None = None
    url: str | None = None
    """URL of the gateway, in place of `site`; the following keys belong to it."""
    api: str | None = None
    """API of `url`, such as `iri`; default: FirecREST."""
    options: dict[str, Any] | None = None
    """Options of that API, as `options` of a site in the sites file."""
    token_url: str | None = None
    client_id: str | None = None
    client_secret_file: str | None = None
    token_command: tuple[str, ...] | None = None
    scope: str | None = None
    ca_file: str | None = None
    verify: bool | None = None
    basedir: str | None = None
    """Absolute path on the system below which each run has its directory; default: `$FIRECREST_BASEDIR`, or
    `reframe` in the user's directory."""
    scheduler: Literal["slurm", "pbs"] | None = None
    """Scheduler of the job scripts' directives; default: as reported by the gateway."""
    fetch: tuple[str, ...] = ()
    """Patterns of further files to fetch after a run, `*` for all. New files are always fetched."""
    pack: Literal["array", "allocation"] | None = None
    """Run small tests together, as one job array or one after the other in one job."""
    pack_size: int = 64
    """Maximum number of tests in one job."""
    patience: float = 3600.0
    """Seconds for which an outage of the gateway only delays the tests."""
    expire: float = 14.0
    """Days after which files of an interrupted run are removed from the system."""

    def target(self) -> tuple[Site, str | None, Authorizer]:
        """Return the site, the name of the system there, and the identity. Relative paths are below the working
        directory.

        Raises:
            ReframeConfigError: the options have no site or no credentials, or an invalid value.
        """
        try:
            site, system = self._site()
            if site.ca_file is not None:
                site = msgspec.structs.replace(site, ca_file=str(Path(site.ca_file).expanduser().absolute()))
            return site, system, site.authorizer()
        except ConfigError as error:
            raise ReframeConfigError(str(error)) from error

    def _site(self) -> tuple[Site, str | None]:
        if self.url is not None:
            address, identity = (
                {name: value for name in names if (value := getattr(self, name)) is not None}
                for names in (ADDRESS_FIELDS, _IDENTITY_FIELDS)
            )
            if isinstance(identity.get("token_command"), tuple):
                identity["token_command"] = list(identity["token_command"])
            if not identity:  # the identity of the variables
                site, _ = find_site()
                return msgspec.structs.replace(site, **address), self.system or site.system
            return Site(name=bare(self.url), **address, **identity), self.system
        site, system = find_site(self.site)
        return site, self.system or system

    def base(self) -> str | None:
        """Return the directory for all runs, None if it is not set."""
        base = self.basedir or os.environ.get("FIRECREST_BASEDIR") or None
        if base is not None and not base.startswith("/"):
            raise ReframeConfigError(f"the base directory {base!r} is not an absolute path on the system")
        return base

    def policy(self) -> Policy:
        """Return the client's settings for retries, polling and submission."""
        return Policy(
            retry=RetryPolicy(attempts=100_000, total_timeout=self.patience),
            # without notification of changes; a single test does not justify a list request
            poll=PollPolicy(min_interval=2.0),
            submit=SubmitPolicy(total_timeout=self.patience),
        )


def read(values: Any) -> Options:
    """Parse the options of a site configuration.

    Raises:
        ReframeConfigError: invalid key or value.
    """
    values = values or {}
    if isinstance(values, dict) and (shown := _SECRETS & values.keys()):
        raise ReframeConfigError(
            f"sched_options/firecrest holds the secret {sorted(shown)[0]!r}, which ReFrame would write into its logs; "
            "use client_secret_file, token_command, the sites file or a FIRECREST_* variable"
        )
    try:
        return msgspec.convert(values, Options)
    except msgspec.ValidationError as error:
        raise ReframeConfigError(f"sched_options/firecrest cannot be used: {error}") from None
