"""The driver's configuration file: TOML on the trusted side, readable by the runner's user only."""

from __future__ import annotations

import os
import re
import stat
import tomllib
from pathlib import Path
from typing import Any, Literal

import msgspec

from crestline.model import ConfigError
from crestline.private_files import read_config

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
SAFE_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")
"""Paths that bash never has to quote, so that they can be replaced in a runner's script. `$USER` is replaced first."""


class Gateway(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gateway, the system, and the identity of jobs without their own."""

    site: str | None = None
    """`system@site` or a site of the sites file, in place of all following keys but `allow_job_credentials`."""
    url: str = ""
    system: str = ""
    token_url: str | None = None
    client_id: str | None = None
    client_id_file: str | None = None
    client_secret: str | None = None
    client_secret_file: str | None = None
    api_key_file: str | None = None
    token_command: list[str] | None = None
    ca_file: str | None = None
    api: str = "firecrest"
    """API of `url`, such as `firecrest` or `iri`."""
    options: dict[str, Any] = {}
    """Options of that API, as `options` of a site in the sites file."""
    verify: bool = True
    """Whether certificates are verified. False only for tests."""
    allow_job_credentials: bool = False
    """Whether a job can use its project's own client (F7T_CLIENT_ID and F7T_CLIENT_SECRET), at these URLs only."""


class Workspace(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Directories of jobs on the system."""

    root: str = ""
    """Absolute path; `$USER` is the user there. Empty: `.crestline-ci` in the user's default directory."""
    keep_on_failure: bool = False


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Default resources of a job, and their limits."""

    account: str | None = None
    partition: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    qos: str | None = None
    nodes: int | None = None
    time: str | None = None
    directives: list[str] = []
    """Further sbatch options of every job."""
    allowed: list[str] = []
    """Limits: `partition:normal,debug`, `nodes<=8`, `time<=04:00:00`."""


class Stages(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where stages run: on the runner's host, or in the job."""

    get_sources: Literal["host", "job"] = "host"
    artifacts: Literal["host", "unconfined"] = "host"
    """`unconfined`: archives can be converted on this machine even if processes cannot be confined."""
    launch: Literal["once", "per-rank"] = "once"
    shell: str = "bash"
    """Shell of the job's script."""


class Images(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How `image:` of a job is run."""

    runtime: Literal["none", "apptainer", "pyxis", "ce", "uenv", "custom"] = "none"
    command: list[str] = []
    """Command for `custom`, before the shell; `{image}` and `{workspace}` are replaced."""
    allowed: list[str] = []
    """Wildcard patterns of allowed images; empty: all images."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of artifacts and caches in both directions."""

    archive: str = "4G"
    """Maximum bytes of one archive; also of the files that a job that has ended left."""
    unpacked: str = "32G"
    """Maximum bytes of all files in one archive; also of a job's sources with git's own data."""
    members: int = 1_000_000
    """Maximum number of files, directories and links in one archive; also in a job's sources."""
    ratio: int = 250
    """Maximum ratio of an archive's files to its size, beyond the first 64 MiB."""
    caches: str = "16G"
    """Maximum bytes of all caches of a project on this machine. The oldest are removed first."""


class Recovery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Behaviour if the runner or the gateway stops responding."""

    heartbeat_ttl: str = "10m"
    """Time without the runner after which the allocation ends itself, such as `10m`."""
    gateway_budget: str = "10m"
    """Time without a response of the gateway after which the driver fails, such as `10m`."""
    state_dir: str = ""
    """Directory on the runner's machine; empty: in the user's state directory."""
    remove_after: str = "7d"
    """Age after which `gc` removes files that the runner's machine has no record of, such as `7d`."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole configuration file, read by `load_settings`.

    Example; all other tables have defaults::

        [gateway]
        url = "https://firecrest.example.org"
        system = "daint"
        token_url = "https://auth.example.org/token"
        client_id = "ci"
        client_secret_file = "/etc/gitlab-runner/firecrest-secret"
    """

    gateway: Gateway
    workspace: Workspace = Workspace()
    job: Defaults = Defaults()
    stages: Stages = Stages()
    images: Images = Images()
    limits: Limits = Limits()
    recovery: Recovery = Recovery()
    name: str = ""
    """Name of this runner in paths; empty: the file's name."""

    @property
    def heartbeat_ttl(self) -> int:
        """Seconds without the runner after which the allocation ends itself."""
        return seconds(self.recovery.heartbeat_ttl)

    @property
    def gateway_budget(self) -> int:
        """Seconds without a response of the gateway after which the driver fails."""
        return seconds(self.recovery.gateway_budget)

    @property
    def state_dir(self) -> Path:
        """Directory of the records of this runner's jobs."""
        if self.recovery.state_dir:
            return Path(self.recovery.state_dir).expanduser() / self.name
        import platformdirs

        return Path(platformdirs.user_state_dir("crestline-gitlab-runner", appauthor=False)) / self.name


def load_settings(file: Path) -> Settings:
    """Read a configuration file.

    Raises:
        ConfigError: it is invalid, or other users can change it, or read secrets in it.
    """
    try:
        text = read_config(file)
        mode = file.stat().st_mode
        settings = msgspec.convert(tomllib.loads(text), Settings)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}.", hint="Make it readable for the runner.") from None
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{file} cannot be used: {error}.", hint="Correct that.") from None
    if settings.gateway.client_secret and mode & 0o077:
        raise ConfigError(f"{file} is open to other users.", hint=f"Run: chmod 600 {file}")
    settings = msgspec.structs.replace(settings, gateway=_with_addresses(settings.gateway, file))
    name = settings.name or re.sub(r"[^A-Za-z0-9_-]", "-", file.stem)
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(f"name {name!r} cannot be part of a path.", hint="Use letters, digits, '-' and '_'.")
    settings = msgspec.structs.replace(settings, name=name)
    _ = settings.heartbeat_ttl, settings.gateway_budget, seconds(settings.recovery.remove_after)
    _ = [size(each) for each in (settings.limits.archive, settings.limits.unpacked, settings.limits.caches)]
    root = settings.workspace.root.replace("$USER", "user")
    if root and not SAFE_PATH.fullmatch(root):
        raise ConfigError(f"workspace.root {root!r} cannot be used.", hint="Only A-Z a-z 0-9 . _ - / in it, please.")
    return settings


def _with_addresses(gateway: Gateway, file: Path) -> Gateway:
    """Return the gateway with the addresses of its site.

    Raises:
        ConfigError: the site is unknown, has no system, or is given together with an address.
    """
    if gateway.site is None:
        if not gateway.url or not gateway.system:
            raise ConfigError(f"{file}: [gateway] has no url or no system.", hint="Set both, or site.")
        return gateway
    if gateway != Gateway(site=gateway.site, allow_job_credentials=gateway.allow_job_credentials):
        raise ConfigError(
            f"{file}: [gateway] has both site and keys that the site sets.",
            hint="Keep site, and of the other keys only allow_job_credentials.",
        )
    from crestline.client import ADDRESS_FIELDS, find_site

    site, system = find_site(gateway.site)
    if system is None:
        raise ConfigError(f"Site {gateway.site!r} has no system.", hint='Write site = "SYSTEM@SITE".')
    addresses = {name: getattr(site, name) for name in (*ADDRESS_FIELDS, "token_url", "client_id")}
    return msgspec.structs.replace(gateway, system=system, **addresses)


def seconds(text: str) -> int:
    """Convert `90s`, `10m`, `2h` or `7d` to seconds.

    Raises:
        ConfigError: invalid duration.
    """
    match = re.fullmatch(r"(\d+)([smhd])", text)
    if match is None:
        raise ConfigError(f"{text!r} is not a length of time.", hint="Write 90s, 10m, 2h or 7d.")
    return int(match[1]) * _UNITS[match[2]]


def size(text: str) -> int:
    """Convert `500M`, `4G` or plain bytes to bytes.

    Raises:
        ConfigError: invalid size.
    """
    match = re.fullmatch(r"(\d+)([KMGT]?)", text)
    if match is None:
        raise ConfigError(f"{text!r} is not a size.", hint="Write 500M, 4G or a number of bytes.")
    return int(match[1]) << 10 * " KMGT".index(match[2] or " ")


def secret_file(name: str, what: str) -> str:
    """Return the one line of a file with a secret.

    Raises:
        ConfigError: it cannot be read, or other users can read it.
    """
    file = Path(name).expanduser()
    try:
        mode = os.stat(file).st_mode
        text = file.read_text().strip()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{what} {file} cannot be read.", hint="Make it readable for the runner alone.") from None
    if mode & stat.S_IRWXO:
        raise ConfigError(f"{what} {file} is open to other users.", hint=f"Run: chmod 600 {file}")
    return text
