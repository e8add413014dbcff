"""Sites with their addresses and credentials, from the sites file or the `FIRECREST_*` variables.

default = "cscs"

[sites.cscs]
url = "https://api.example.org/firecrest/v2"
token_url = "https://auth.example.org/token"
client_id = "me"
client_secret = "..."
system = "daint"
"""

from __future__ import annotations

import os
import re
import shlex
import ssl
import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import platformdirs

from crestline.client.auth import (
    ApiKey,
    Authorizer,
    ClientCredentials,
    RefreshToken,
    StaticToken,
    TokenCommand,
    TokenFile,
)
from crestline.model import ConfigError
from crestline.plain_http import bare
from crestline.private_files import locked, read_config, warn_if_open, write_private

ADDRESS_FIELDS = ("url", "api", "options", "ca_file", "verify")
"""the fields of `Site` without credentials, which the configuration of every adapter has"""
_SECRETS = ("client_secret", "refresh_token", "token", "api_key")


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The address of a gateway with the credentials of one user; a table of the sites file.

    One of `client_secret`, `client_secret_file`, `refresh_token`, `token`, `api_key` and `token_command` holds the
    credentials. The first three need `token_url` and `client_id`. `refresh_token` can be combined with a secret.

    >>> site = Site(url="https://firecrest.cscs.ch", token="…", system="daint")
    >>> site.api
    'firecrest'

    Example: `crestline.connect(site)`
    """

    url: str
    api: str = "firecrest"
    """facility API at `url`, `firecrest` or `iri`; plug-ins add others"""
    options: dict[str, Any] = {}
    """further settings of the backend of `api`; FirecREST has none"""
    token_url: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    client_secret_file: str | None = None
    refresh_token: str | None = None
    token: str | None = None
    api_key: str | None = None
    api_key_header: str = "X-API-Key"
    token_command: list[str] | None = None
    scope: str | None = None
    system: str | None = None
    """system to use if the target names none"""
    account: str | None = None
    """account for jobs without one, and for FirecREST's transfer jobs"""
    verify: bool = True
    """False: skip certificate verification, for tests only"""
    ca_file: str | None = None
    """PEM file of the authority that signed the gateway's certificate"""
    name: str = ""

    def __repr__(self) -> str:
        return f"Site({self.name or bare(self.url)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("name", self.name or bare(self.url))]

    def trust(self) -> ssl.SSLContext | bool:
        """Return the argument `verify` of httpx.

        Raises:
            ConfigError: `ca_file` is not a readable PEM file.
        """
        if self.ca_file is None:
            return self.verify
        try:
            return ssl.create_default_context(cafile=str(Path(self.ca_file).expanduser()))
        except OSError as error:
            raise ConfigError(
                f"ca_file {self.ca_file} cannot be used: {error}.", hint="Name a PEM file of certificates."
            ) from error

    def authorizer(self) -> Authorizer:
        """Return an authorizer with the credentials of the site.

        Raises:
            ConfigError: the site has no credentials, or incomplete ones.
        """
        if self.api_key:
            return ApiKey(self.api_key, self.api_key_header)
        if self.token:
            return StaticToken(self.token)
        if self.token_command:
            return TokenCommand(self.token_command)
        secret = self.client_secret or self._secret_from_file()
        if not self.token_url or not self.client_id:
            raise self._incomplete()
        trust = self.trust()
        if self.refresh_token:
            store = TokenFile(sites_file().with_name(f"{_file_name(self)}.token"), self.refresh_token)
            return RefreshToken(
                self.token_url, self.client_id, store, client_secret=secret, scope=self.scope, verify=trust
            )
        if not secret:
            raise self._incomplete()
        return ClientCredentials(self.token_url, self.client_id, secret, scope=self.scope, verify=trust)

    def _incomplete(self) -> ConfigError:
        return ConfigError(
            f"{self.name or bare(self.url)} has no credentials.",
            hint="Give client_id, client_secret and token_url, or a refresh_token, token, api_key or token_command.",
        )

    def _secret_from_file(self) -> str | None:
        if self.client_secret_file is None:
            return None
        file = Path(self.client_secret_file).expanduser()
        try:
            secret = file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"client_secret_file {file} cannot be read.", hint="Make it readable.") from None
        warn_if_open(file)
        return secret


class _File(msgspec.Struct, forbid_unknown_fields=True):
    default: str | None = None
    sites: dict[str, Site] = {}


def sites_file() -> Path:
    """Return the path of the sites file, `$CRESTLINE_SITES` or `sites.toml` in the user's configuration directory."""
    named = os.environ.get("CRESTLINE_SITES")
    if named:
        return Path(named).expanduser().absolute()
    return Path(platformdirs.user_config_dir("crestline", appauthor=False)) / "sites.toml"


def load_sites(file: Path | None = None) -> dict[str, Site]:
    """Return all sites of the file by name, an empty mapping if the file does not exist.

    Raises:
        ConfigError: the file is not valid TOML, has an unknown key or an invalid value, or other users can read its
            secrets.
    """
    return _load(file or sites_file()).sites


def find_site(target: str | None = None, *, file: Path | None = None) -> tuple[Site, str | None]:
    """Return the site and the system that a target names.

    Args:
        target: `system@site` or `site`. None: the site of the `FIRECREST_*` variables if `FIRECREST_URL` is set, else
            the file's `default`, or its only site.

    Returns:
        the site, and the name of the system, or None if neither the target nor the site names one.

    Raises:
        ConfigError: the site does not exist.
    """
    if not target:
        site = site_from_environment() or _default(file or sites_file())
        return site, site.system
    system, at, name = target.rpartition("@")
    if at and not (system and name):
        raise ConfigError(f"{target!r} is not a target.", hint="Write system@site, or the name of a site.")
    sites = load_sites(file)
    if name not in sites:
        known = ", ".join(sorted(sites)) or "none"
        raise ConfigError(
            f"Unknown site {name!r}.", hint=f"{file or sites_file()} has: {known}. `crestline serve` adds one."
        )
    return sites[name], system or sites[name].system


def site_from_environment(environment: Mapping[str, str] = os.environ) -> Site | None:
    """Return the site of the `FIRECREST_*` variables, or None without `FIRECREST_URL`.

    Raises:
        ConfigError: `FIRECREST_TOKEN_COMMAND` is not a command line.
    """
    url = environment.get("FIRECREST_URL")
    if not url:
        return None
    try:
        command = shlex.split(environment.get("FIRECREST_TOKEN_COMMAND", ""))
    except ValueError as error:
        raise ConfigError(
            f"FIRECREST_TOKEN_COMMAND is not a command line: {error}.", hint="Check its quotes."
        ) from None

    def value(name: str) -> str | None:
        return environment.get(name) or None

    return Site(
        name="FIRECREST_URL",
        url=url,
        api=value("FIRECREST_API") or "firecrest",
        token_url=value("AUTH_TOKEN_URL"),
        client_id=value("FIRECREST_CLIENT_ID"),
        client_secret=value("FIRECREST_CLIENT_SECRET"),
        token=value("FIRECREST_TOKEN"),
        api_key=value("FIRECREST_API_KEY"),
        token_command=command or None,
        system=value("FIRECREST_SYSTEM"),
    )


def register_site(name: str, *, file: Path | None = None, **values: Any) -> Path:
    """Add or replace a site in the sites file, atomically. The rest of the file stays unchanged.

    Args:
        name: name of the site.
        file: the sites file. None: that of `sites_file`.
        values: fields of `Site`. None omits a field.

    Returns:
        the path of the file.

    Raises:
        ConfigError: a field is unknown or invalid, or the present file is invalid.
    """
    file = file or sites_file()
    table = {key: value for key, value in values.items() if value is not None}
    try:
        msgspec.convert(table, Site)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The site {name!r} cannot be used: {error}.", hint="Check its fields.") from None
    with locked(file.with_name(f".{file.name}.lock")):
        _load(file)
        text = file.read_text() if file.exists() else ""
        write_private(file.resolve(), _with_site(text, name, table).encode())
    return file


def _default(file: Path) -> Site:
    content = _load(file)
    if content.default is not None and content.default in content.sites:
        return content.sites[content.default]
    if content.default is None and len(content.sites) == 1:
        return next(iter(content.sites.values()))
    if not content.sites:
        raise ConfigError(
            "No site is configured.",
            hint=f"Start a gateway on this machine with `crestline serve`, set FIRECREST_URL, or add a site to {file}.",
        )
    known = ", ".join(sorted(content.sites))
    raise ConfigError(
        "No default site is configured.",
        hint=f"Name one, or set FIRECREST_URL, or `default` in {file}. It has: {known}.",
    )


def _load(file: Path) -> _File:
    try:
        text = read_config(file)
        mode = file.stat().st_mode
    except FileNotFoundError:
        return _File()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {file}.", hint="Make it a readable text file.") from error
    try:
        content = msgspec.convert(tomllib.loads(text), _File)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{file} cannot be used: {error}.", hint="Correct that.") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and any(
        getattr(site, field) for site in content.sites.values() for field in _SECRETS
    ):
        raise ConfigError(f"{file} shows secrets to other users.", hint=f"Run: chmod 600 {file}")
    directory = file.absolute().parent
    content.sites = {
        name: msgspec.structs.replace(site, name=name, **_resolve_paths(site, directory))
        for name, site in content.sites.items()
    }
    return content


def _resolve_paths(site: Site, directory: Path) -> dict[str, str]:
    """Return the files that a site names as absolute paths. Relative paths are below `directory`."""
    return {
        field: str(directory / Path(named).expanduser())
        for field in ("client_secret_file", "ca_file")
        if (named := getattr(site, field))
    }


def _with_site(text: str, name: str, table: dict[str, Any]) -> str:
    """Return the text of the file with this site. The rest stays as it is."""
    import tomlkit  # slow to import, and most programs change no sites

    wanted = tomllib.loads(text)
    wanted.setdefault("sites", {})[name] = table
    document = tomlkit.parse(text)
    document.setdefault("sites", tomlkit.table(is_super_table=True))[name] = table
    edited = tomlkit.dumps(document)
    # tomlkit misplaces a table after dotted keys (`sites.a.url = ...`) that plain keys follow.
    return edited if tomllib.loads(edited) == wanted else tomlkit.dumps(wanted)


def _file_name(site: Site) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", site.name or site.client_id or "site")
